"""What the stages of an image take of one core: measured one by one, in one thread, without a queue."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from imagequeue_worker.images import DEFAULT_LIMITS, crop_for, decode
from imagequeue_worker.nets import IMAGES_PER_RUN, LoadedNet
from imagequeue_worker.references import ImageSources, References

PASSES_LEAST = 3

Given = TypeVar("Given")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class StageMs:
    """Milliseconds of processor time per image.

    `quantize` is the look-up of pixels in the net's table where that is a step of its own; the native engine does it
    while it packs pixels, and `net` is what remains of its run.
    """

    read: float
    decode: float
    resize: float
    quantize: float
    net: float

    @property
    def sum(self) -> float:
        """All of them."""
        return self.read + self.decode + self.resize + self.quantize + self.net


def measure_stages(net: LoadedNet, files: Sequence[Path], *, seconds: float) -> StageMs:
    """Run each stage over all files, again and again for so many seconds in all; medians of the passes.

    Raises ImageError for a file that cannot be classified.
    """
    spec = net.description.preprocessing
    references = References(ImageSources(image_roots=tuple({file.parent for file in files})))

    def read(file: Path) -> bytes:
        with references.allow(str(file)) as allowance:
            return references.fetch(str(file), allowance)

    each = seconds / 5
    read_ms, data = _timed(read, files, each)
    decode_ms, decoded = _timed(lambda one: decode(one, DEFAULT_LIMITS, spec), data, each)
    resize_ms, crops = _timed(lambda one: crop_for(one, spec), decoded, each)
    batch = np.stack([crops[number % len(crops)] for number in range(IMAGES_PER_RUN)])
    whole_ms, _ = _timed(net.net.run_pixels, [batch], each)
    net_ms, _ = _timed(net.net.run_quantized, [batch], each)
    whole_ms, net_ms = whole_ms / len(batch), net_ms / len(batch)
    return StageMs(read_ms, decode_ms, resize_ms, max(0.0, whole_ms - net_ms), min(whole_ms, net_ms))


def _timed(do: Callable[[Given], Found], given: Sequence[Given], seconds: float) -> tuple[float, list[Found]]:
    """Milliseconds of this thread's processor time for each of the given, and what came of them."""
    passes: list[float] = []
    until = time.monotonic() + seconds
    while len(passes) < PASSES_LEAST or time.monotonic() < until:
        started = time.thread_time()
        found = [do(one) for one in given]
        passes.append(time.thread_time() - started)
    return 1000 * statistics.median(passes) / len(given), found
