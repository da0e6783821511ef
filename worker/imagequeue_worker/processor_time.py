"""What processes have had of the processor."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
# Fields of /proc/<pid>/stat after the name, which may hold blanks and brackets: proc(5) counts from 1, and state is 3.
_PARENT, _TIMES = 4 - 3, slice(14 - 3, 18 - 3)  # utime, stime, cutime, cstime


def tree_seconds(root: int) -> float | None:
    """User and system time of a process, of its descendants, and of those that they have waited for.

    None where there is no /proc. Take the difference of two calls; a process that ends between them is missed unless
    its parent has waited for it.
    """
    if not (PROC / "self/stat").exists():
        return None
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):  # ended meanwhile
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                pid = int(folder.name)
                children[int(fields[_PARENT])].append(pid)
                ticks[pid] = sum(map(int, fields[_TIMES]))
    found, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        found += ticks.get(pid, 0)
        waiting += children[pid]
    return found / os.sysconf("SC_CLK_TCK")
