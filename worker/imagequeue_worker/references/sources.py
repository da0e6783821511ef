"""What every kind of reference shares: what it is made from, what it does, how it quotes a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSources:
    """What the settings say about where images may come from; every kind is made from it."""

    image_roots: tuple[Path, ...] = ()  # none: every path is forbidden
    image_bytes_max: int = 64 << 20


Fetch: TypeAlias = Callable[[str], bytes]
"""Reads the bytes of one reference, which it gets whole, scheme included; raises ImageError when it cannot.
Called from several threads at once."""

Factory: TypeAlias = Callable[[ImageSources], Fetch]
"""Makes a kind, once per `References`; should be cheap, and open nothing yet."""


def shown(ref: str) -> str:
    """A reference as messages quote it: escaped, and not too long."""
    return repr(ref if len(ref) <= 200 else ref[:199] + "…")
