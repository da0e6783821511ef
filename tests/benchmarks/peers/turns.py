"""The far end of a contender's pipe: a process that holds one runtime and runs it when it is asked to.

Each contender has a process of its own, so that no runtime meets another's threads, allocator or floating-point
flags. All stand on one core, and only one of them runs at a time: the others wait for a line on their pipe.
One JSON object a line, both ways; what libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[], Array]

PIXELS, IMAGES = "pixels.npy", "images.npy"
"""The same pictures, uint8 [N, H, W, C] and float32 [N, C, H, W] as Caffe2's Int8Quantize gets them."""


class Runtime(Protocol):
    """One runtime with the net loaded."""

    def about(self) -> dict[str, Any]:
        """Name, version and whatever a reader of the figures must know."""

    def prepare(self, batch: Array) -> tuple[Call, dict[str, Any]]:
        """Make ready a call that classifies this batch, float32 [N, classes], and say how it will run."""


class Turns:
    """What the near end may ask for; each method's answer is a JSON object."""

    def __init__(self, runtime: Runtime, images: Array) -> None:
        self.runtime, self.images = runtime, images
        self.calls: dict[int, Call] = {}

    def prepare(self, batch: int) -> dict[str, Any]:
        """Get ready for a batch size, outside the clock."""
        self.calls[batch], form = self.runtime.prepare(_first(self.images, batch))
        return form

    def classify(self, batch: int, out: str) -> dict[str, Any]:
        """Write the probabilities of all pictures to a file, run in batches of this size."""
        count = len(self.images)
        parts = [self.runtime.prepare(_first(self.images[at:], batch))[0]().copy() for at in range(0, count, batch)]
        np.save(out, np.concatenate(parts)[:count])
        return {}

    def turn(self, batch: int, seconds: float) -> dict[str, Any]:
        """Run once to bring the net back into the caches, then for so long: milliseconds of each call."""
        call = self.calls[batch]
        call()
        wall: list[float] = []
        cpu = time.process_time()
        while not wall or sum(wall) < 1000 * seconds:
            start = time.perf_counter()
            call()
            wall.append(1000 * (time.perf_counter() - start))
        return {"wall_ms": wall, "cpu_ms": 1000 * (time.process_time() - cpu) / len(wall)}


def _first(images: Array, batch: int) -> Array:
    """A batch of the first images, repeated where there are too few."""
    return np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))


def serve(make: Callable[[], Runtime], images: Path) -> None:
    """Answer on standard output until standard input ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        start = time.perf_counter()
        runtime = make()
        turns = Turns(runtime, np.load(images))
        _answer(answers, {**runtime.about(), "load_seconds": round(time.perf_counter() - start, 3)})
        for line in sys.stdin:
            asked = json.loads(line)
            _answer(answers, getattr(turns, asked.pop("do"))(**asked))


def _answer(answers: Any, values: Mapping[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def fastest(candidates: Mapping[str, Call], batch: int) -> tuple[str, dict[str, float]]:
    """Run each a few times; the name of the fastest, and the milliseconds per image of all.

    By processor time, which other processes on the machine disturb least; the best of a few calls.
    """
    tried: dict[str, float] = {}
    for name, call in candidates.items():
        call()
        times = []
        for _ in range(max(3, 16 // batch)):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        tried[name] = round(1000 * min(times) / batch, 3)
    return min(tried, key=tried.__getitem__), tried
