"""Signs of life of the worker processes, in memory that they share with their supervisor and its metrics server.

    heartbeat thread of each process ──> its row ──> /livez, /readyz

Made before the forks. A row has one writer at a time: its process, and the supervisor while there is none. Each field
is one aligned double, so readers see an old value or a new one. All times are monotonic: one clock for the machine.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

BEAT_LATE_SECONDS: Final = 15.0  # by which a beat may be late: it may wait for Redis so long
_BYTES: Final = 8


class _Field(IntEnum):
    PID = 0
    STARTED_AT = 1
    BEAT_AT = 2
    OVERDUE_SECONDS = 3
    ANSWERED_AT = 4


@dataclass(frozen=True, slots=True)
class Vitals:
    """What one worker process has shown of itself; monotonic seconds, 0 for never."""

    pid: int  # 0: there is none just now
    started_at: float
    beat_at: float  # its heartbeat thread has run
    overdue_seconds: float  # by which its loop was late then
    answered_at: float  # Redis has answered a heartbeat, for the first time after it knew the worker


class VitalsRow:
    """The row of one process; written by that process."""

    def __init__(self, fields: memoryview[float]) -> None:
        self._fields = fields

    def clear(self) -> None:
        """A process is about to be started, of which nothing is known. For the supervisor."""
        for field in _Field:
            self._fields[field] = 0.0
        self._fields[_Field.STARTED_AT] = time.monotonic()

    def belongs_to(self, pid: int) -> None:
        """It has been started; 0: it has ended. For the supervisor."""
        self._fields[_Field.PID] = float(pid)

    def beat(self, overdue_seconds: float) -> None:
        """The heartbeat thread runs, and has looked at the loop."""
        self._fields[_Field.OVERDUE_SECONDS] = overdue_seconds
        self._fields[_Field.BEAT_AT] = time.monotonic()

    def answered(self) -> None:
        """Redis knows this worker and has answered it."""
        self._fields[_Field.ANSWERED_AT] = time.monotonic()

    def read(self) -> Vitals:
        """What stands there."""
        pid, *times = self._fields
        return Vitals(int(pid), *times)


class VitalsBoard:
    """A row for each worker process of a command, and whether the command is ending."""

    def __init__(self, processes: int) -> None:
        memory = mmap.mmap(-1, (processes * len(_Field) + 1) * _BYTES)  # anonymous and shared: forks see each other
        cells = memoryview(memory).cast("d")
        width = len(_Field)
        self._ending = cells[processes * width :]
        self.rows = [VitalsRow(cells[number * width : (number + 1) * width]) for number in range(processes)]

    def begin_to_end(self) -> None:
        """The command has been told to stop: it wants no more work."""
        self._ending[0] = 1.0

    @property
    def ending(self) -> bool:
        """Whether it has."""
        return bool(self._ending[0])

    def __iter__(self) -> Iterator[Vitals]:
        return (row.read() for row in self.rows)
