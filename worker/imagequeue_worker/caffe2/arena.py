"""Where each tensor of a net lies in one block of memory, so that those alive at the same time never overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 64  # bytes, a cache line
SLACK = 64  # bytes that kernels may read, or scribble over, behind a tensor


@dataclass(frozen=True, slots=True)
class Life:
    """A tensor of `size` bytes, written by step `first` and read for the last time by step `last`."""

    size: int
    first: int
    last: int


def place(lives: Sequence[Life]) -> tuple[list[int], int]:
    """Give each tensor an offset; returns the offsets, and the arena's size in bytes.

    Largest first, each at the lowest place that is free for its whole life: what TensorFlow Lite does, within a
    few per cent of the best for nets of this kind.
    """
    offsets = [0] * len(lives)
    placed: list[int] = []
    for number in sorted(range(len(lives)), key=lambda n: -lives[n].size):
        life = lives[number]
        at = 0
        for other in sorted(placed, key=lambda n: offsets[n]):
            neighbour = lives[other]
            if neighbour.last < life.first or neighbour.first > life.last:
                continue
            if at + _room(life) <= offsets[other]:
                break
            at = max(at, offsets[other] + _room(neighbour))
        offsets[number] = at
        placed.append(number)
    return offsets, max((offsets[n] + _room(lives[n]) for n in placed), default=0)


def _room(life: Life) -> int:
    return -(-(life.size + SLACK) // ALIGNMENT) * ALIGNMENT
