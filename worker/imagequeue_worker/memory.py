"""How much memory a process has."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path
from typing import Final

# mallopt's parameters, of glibc's <malloc.h>.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

_MAPPED_APART_BYTES: Final = 1 << 20  # buffers of this size and more: files and pictures
_KEPT_FREE_BYTES: Final = 4 << 20


def resident_bytes() -> int:
    """What this process holds in memory now; on systems without /proc the most that it ever did."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def share_one_heap() -> None:
    """Have all threads share one heap, from which large buffers are mapped apart; call it before there are threads.

    glibc else keeps a heap for each thread that has allocated, and of each what its largest picture took: a third of
    the process. Does nothing under another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and sys.platform == "linux":
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_APART_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
