"""One change to some bytes: what the fuzz of files and that of nets have in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

KINDS = 6


def damage(
    chance: random.Random, data: bytearray, place: int, kind: int, values: Sequence[bytes], other: Callable[[], bytes]
) -> None:
    """Flip a bit, change a byte, write one of `values`, drop or double a piece, or splice one of `other()` in."""
    match kind:
        case 0 if place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        case 1 if place < len(data):
            data[place] = chance.randrange(256)
        case 2:
            value = chance.choice(values)
            data[place : place + len(value)] = value
        case 3:
            del data[place : place + chance.randrange(1, 64)]
        case 4:
            data[place:place] = data[place : place + chance.randrange(1, 64)]
        case 5:
            piece = other()
            start = chance.randrange(len(piece))
            data[place : place + 32] = piece[start : start + 32]
