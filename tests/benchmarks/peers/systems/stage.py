"""What all systems of a run share: a Redis, the pictures, the models of the peers, and our own answers to check by."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from near_end import HERE, OURS, Entry, Running, peers

from imagequeue.connection import connect
from imagequeue_worker.caffe2 import PixelScaling, load_net
from imagequeue_worker.commands.demo import demo_pictures
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.images import preprocess
from imagequeue_worker.processor_time import tree_seconds
from imagequeue_worker.zoo import describe, find_nets

PEERS_PYTHON = HERE.parents[3] / ".venv-peers/bin/python"
SUFFIXES = (".jpg", ".jpeg", ".png")
WARM_IMAGES = 64
MODEL_PICTURES = 8


class WrongAnswersError(RuntimeError):
    """Raised when a system's answers are not ours, so that its time says nothing; gives the counts."""


@dataclass(frozen=True)
class Turn:
    """What one turn of a system measured."""

    images_per_second: float
    cpu_ms: float  # of client, workers and Redis, per image
    agreeing: int  # images whose best class is ours


@dataclass(frozen=True)
class Stage:
    """See the module."""

    server: EmbeddedRedis
    model: Path
    common: dict[str, Any]
    files: list[str]
    best: dict[str, int]  # by file, by our engine, without a queue

    def refs(self, count: int) -> list[str]:
        """So many references: the files, over and over."""
        return list(islice(cycle(self.files), count))

    @contextmanager
    def running(self, entry: Entry, workers: int) -> Iterator[Running]:
        """A system on an empty Redis, warm."""
        with connect(self.server.url, resend=False) as connection:
            connection.flushall()
        with Running(entry, self.common | {"port": free_port()}) as system:
            system.start(workers, self.refs(WARM_IMAGES * workers))
            yield system

    def turn(self, system: Running, count: int, agreeing_least: float) -> Turn:
        """Have it classify so many images; raises WrongAnswersError."""
        refs = self.refs(count)
        before = self._processor_seconds(system)
        found = system.classify(refs)
        cpu = self._processor_seconds(system) - before
        agreeing = sum(answer == self.best[ref] for answer, ref in zip(found["answers"], refs, strict=True))
        if agreeing < (count if system.entry.ours else agreeing_least * count):
            raise WrongAnswersError(f"{system.entry.name}: the best class is ours on {agreeing} of {count} images only")
        return Turn(count / found["seconds"], 1000 * cpu / count, agreeing)

    def _processor_seconds(self, system: Running) -> float:
        assert self.server.pid is not None
        return system.processor_seconds() + (tree_seconds(self.server.pid) or 0.0)


@contextmanager
def staged(net: Path | None, images: Path | None, peers_python: Path | None) -> Iterator[Stage]:
    """A stage in a folder of its own; the models of the peers are made where there are peers."""
    net = net or net_at_hand()
    files = pictures(images)
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name, "redis"), port=free_port()) as server:
        model = Path(name, "model")
        model.mkdir()
        if peers_python:
            make_models(net, files, model, peers_python)
        common = {
            "redis_url": server.url, "model": str(model), "net": str(net), "images": str(Path(files[0]).parent),
        }  # fmt: skip
        yield Stage(server, model, common, files, our_answers(net, files))


def net_at_hand() -> Path:
    """The net that a worker would load without being told; raises ClickException when nothing is in the cache."""
    try:
        return find_nets((), fetch=False).choices[0].folder
    except NetUnavailable as error:
        raise click.ClickException(f"{error}; or name one with --net") from error


def pictures(images: Path | None) -> list[str]:
    """The files of a folder, or scikit-image's photographs."""
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES) if images else demo_pictures()
    if not found:
        raise click.ClickException(f"{images} holds no pictures ({', '.join(SUFFIXES)})")
    return [str(path.resolve()) for path in found]


def our_answers(net: Path, files: Sequence[str]) -> dict[str, int]:
    """The best class of each file, by our engine in this process."""
    spec = describe(net).preprocessing
    loaded = load_net(net, scaling=PixelScaling(spec.mean, spec.std))
    return {
        file: int(loaded.run_pixels(preprocess(Path(file).read_bytes(), spec)[np.newaxis])[loaded.output_name].argmax())
        for file in files
    }


def make_models(net: Path, files: Sequence[str], model: Path, peers_python: Path) -> None:
    """The net as the peers' runtimes read it, in the forms that are fastest here."""
    spec = describe(net).preprocessing
    (model / "preprocessing.json").write_text(json.dumps(asdict(spec)))
    pixels = np.stack([preprocess(Path(file).read_bytes(), spec) for file in islice(cycle(files), MODEL_PICTURES)])
    scaled = PixelScaling(spec.mean, spec.std).apply(pixels)
    np.save(model / "pixels.npy", np.ascontiguousarray(np.moveaxis(scaled, -1, 1)))
    command = [str(peers_python), str(HERE / "model_files.py"), str(net), str(model / "pixels.npy"), str(model)]
    done = subprocess.run(command, env={"PYTHONPATH": str(HERE.parents[3] / "worker")}, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"the peers' models could not be made: {done.stderr[-2000:]}")


def lineup(stage: Stage, with_peers: bool, peers_python: Path, only: Sequence[str]) -> list[Entry]:
    """Ours, and the peers whose name contains one of `only`, or all."""
    if not with_peers:
        return [OURS]
    found = peers(peers_python, stage.model)
    return [OURS, *(entry for entry in found if not only or any(word in entry.name for word in only))]


def check_peers(peers_python: Path) -> Path:
    """The interpreter of the peers' environment; raises ClickException when it is not there."""
    if not peers_python.exists():
        raise click.ClickException(f"{peers_python} is not there; `make bench-peers` makes it")
    return peers_python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
