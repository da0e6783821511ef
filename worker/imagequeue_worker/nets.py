"""The nets that a worker process holds, each with what makes pixels for it and what its classes mean."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from imagequeue.contract import ClassScore, ErrorCode, Model
from imagequeue_worker.caffe2 import Net, PixelScaling, load_net, native_problem
from imagequeue_worker.description import NetDescription
from imagequeue_worker.errors import ImageError, NetUnavailable
from imagequeue_worker.settings import NetChoice, Settings
from imagequeue_worker.zoo import Progress, describe, find_nets

log = structlog.get_logger("imagequeue_worker.nets")

# The net's run is cut into slices, so that progress is seen and memory stays flat whatever the batch.
IMAGES_PER_RUN = 8


@dataclass(frozen=True, slots=True)
class LoadedNet:
    """A net in memory, and how its pixels are made and its classes are called."""

    model: Model
    net: Net
    description: NetDescription

    @property
    def engine(self) -> str:
        """The path that runs it, e.g. `portable`."""
        return self.net.engine

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 `[N, classes]`, of uint8 pixels `[N, crop, crop, 3]`."""
        (output,) = self.net.run_pixels(pixels).values()
        return output

    def best_classes(self, probabilities: NDArray[np.float32], top_k: int) -> tuple[ClassScore, ...]:
        """The `top_k` best of one image's probabilities `[classes]`, best first; ties by lower index."""
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        return tuple(self._score(int(index), float(probabilities[index])) for index in order)

    def _score(self, index: int, probability: float) -> ClassScore:
        wnid, label = self.description.label(index, self.net.classes)
        return ClassScore(index, wnid, label, probability)

    def warm_up(self) -> float:
        """Run the net once on a black picture; the seconds it took. Fails here rather than on the first image."""
        started = time.monotonic()
        crop = self.description.preprocessing.crop
        probabilities = self.probabilities(np.zeros((1, crop, crop, 3), np.uint8))
        if probabilities.shape != (1, self.net.classes):
            raise NetUnavailable(f"net {self.model.name} gives {probabilities.shape}; (1, {self.net.classes}) expected")
        return time.monotonic() - started


class Nets:
    """The nets of a process; the first is the one that requests without a model get."""

    def __init__(self, nets: Sequence[LoadedNet]) -> None:
        if not nets:
            raise NetUnavailable("no net is loaded; name one with --net")
        self._nets = {net.model.name: net for net in nets}
        self.first = nets[0]

    def __iter__(self) -> Iterator[LoadedNet]:
        return iter(self._nets.values())

    def choose(self, model: str | None) -> LoadedNet:
        """The net that a request names; raise ImageError `unknown_model` when it is not loaded."""
        if model is None:
            return self.first
        net = self._nets.get(model)
        if net is None:
            raise ImageError(
                ErrorCode.UNKNOWN_MODEL,
                f"model {model[:80]!r} is not loaded here; this worker has {sorted(self._nets)}",
            )
        return net


def load_found_nets(settings: Settings, progress: Progress | None = None) -> Nets:
    """The nets that the settings name, else a default; `progress` is told of what has to be fetched."""
    return load_nets(find_nets(settings.nets, progress=progress).choices, settings.engine)


def load_nets(choices: Sequence[NetChoice], engine: str) -> Nets:
    """Load these nets and run each once.

    Raises NetUnavailable, or caffe2.Caffe2Error when the files are damaged or hold no net that can be run.
    """
    if native_problem():
        log.warning("no native engine: nets run in the portable one, many times slower", why=native_problem())
    nets = [_load(choice, engine) for choice in choices]
    names = [net.model.name for net in nets]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise NetUnavailable(f"two nets are called {doubled[0]!r}; give one of them a name: --net NAME=FOLDER")
    return Nets(nets)


def _load(choice: NetChoice, engine: str) -> LoadedNet:
    description = describe(choice.folder)
    spec = description.preprocessing
    net = load_net(choice.folder, engine=engine, scaling=PixelScaling(spec.mean, spec.std))
    loaded = LoadedNet(Model(choice.name or description.name, net.sha256), net, description)
    seconds = loaded.warm_up()
    log.info("net loaded", net=loaded.model.name, engine=loaded.engine, warm_up_ms=round(seconds * 1000, 1))
    return loaded
