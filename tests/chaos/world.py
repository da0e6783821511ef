"""The net and the pictures of all storms, and what every picture's result must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image as PillowImage

from imagequeue.contract import ClassScore, Model
from imagequeue_worker.description import NetDescription, write_description
from imagequeue_worker.images import DEFAULT_LIMITS
from imagequeue_worker.images.spec import ZOO
from imagequeue_worker.local import classify_references
from imagequeue_worker.nets import load_nets
from imagequeue_worker.settings import NetChoice

CLASSES, SIDE, PICTURES = 16, 64, 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What a picture's result must be, bit for bit."""

    classes: tuple[ClassScore, ...]
    model: Model | None


Truth = Mapping[str, Answer | str]
"""Reference -> its answer, or the code of the error that it must end with."""


@dataclass(frozen=True, slots=True)
class World:
    """A small net, a folder of pictures, and the truth about them, found in this process with the same net."""

    net: Path
    pictures: Path
    truth: Truth

    @property
    def refs(self) -> list[str]:
        """The pictures' references."""
        return list(self.truth)

    def slow(self, seconds: float) -> dict[str, Answer | str]:
        """The truth about the same pictures when each takes so long to fetch."""
        return {f"fault:slow:{seconds:g}:{ref}": answer for ref, answer in self.truth.items()}


def make_world(folder: Path) -> World:
    """Write net and pictures into the folder, where they are not there yet, and classify the pictures."""
    from synthetic_net import synthetic_pictures, write_synthetic_net

    net, pictures = folder / "net", folder / "pictures"
    if not (pictures / f"{PICTURES - 1}.png").exists():
        write_synthetic_net(net, width=0.1, size=SIDE, classes=CLASSES)
        labels = tuple(f"class {index}" for index in range(CLASSES))
        spec = replace(ZOO, resize=SIDE, crop=SIDE)
        write_description(net, NetDescription(name="storm", preprocessing=spec, labels=labels))
        pictures.mkdir(parents=True, exist_ok=True)
        for number, pixels in enumerate(synthetic_pictures(PICTURES, SIDE, seed=7)):
            PillowImage.fromarray(pixels).save(pictures / f"{number}.png")
    return World(net, pictures, _truth(net, sorted(pictures.glob("*.png"))))


def _truth(net: Path, pictures: list[Path]) -> Truth:
    nets = load_nets([NetChoice(net)], "auto")
    refs = [str(path) for path in pictures]
    outcomes = classify_references(refs, nets, top_k=5, threads=1, limits=DEFAULT_LIMITS)
    truth = {outcome.ref: Answer(outcome.classes, nets.first.model) for outcome in outcomes}
    if len({answer.classes for answer in truth.values()}) < len(truth):
        raise AssertionError("two pictures have the same answer: a mixed-up result would not be noticed")
    return truth
