"""What one reference may cost: bytes, and seconds; and what all that are under way may cost together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError


class ByteBudget:
    """Bytes that may be in memory at once between the first byte of a fetch and the end of its decoding.

    Sizes are not known beforehand, so a fetch asks while it reads, and waits when all is given out. One fetch at a time
    may go on above the budget: what it holds becomes free in the end, so the others never wait for each other. The
    bound is therefore the budget and one image.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used = 0
        self._above: Allowance | None = None
        self._changed = threading.Condition()

    @property
    def used(self) -> int:
        """Bytes that are given out."""
        return self._used

    def take(self, count: int, holder: Allowance) -> None:
        """Give `count` bytes to a fetch, waiting for them if need be: whoever holds some comes to an end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_free(count, holder))
            if self._used + count > self._bytes_max:
                self._above = holder
            self._used += count

    def give_back(self, count: int, holder: Allowance) -> None:
        """Take all that a fetch has been given, and let others have it."""
        with self._changed:
            self._used -= count
            if self._above is holder:
                self._above = None
            self._changed.notify_all()

    def _is_free(self, count: int, holder: Allowance) -> bool:
        return self._used + count <= self._bytes_max or self._above is None or self._above is holder


class Allowance:
    """What one reference may still cost. A context manager: its bytes count as in flight until it is left."""

    def __init__(self, ref: str, *, bytes_max: int, seconds: float, budget: ByteBudget | None = None) -> None:
        self._ref = ref
        self._bytes_max = bytes_max
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._budget = budget
        self._taken = 0

    @property
    def bytes_max(self) -> int:
        """The largest image, in bytes."""
        return self._bytes_max

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The bytes are not needed any more."""
        taken, self._taken = self._taken, 0
        if self._budget is not None and taken:
            self._budget.give_back(taken, self)

    def clock(self) -> float:
        """The seconds that are left, if any."""
        return self._deadline - time.monotonic()

    def seconds_left(self) -> float:
        """The time that is left; raise ImageError `fetch_timeout` when there is none."""
        left = self.clock()
        if left <= 0:
            raise self.too_late()
        return left

    def too_late(self) -> ImageError:
        """The error of a fetch whose time is up."""
        return ImageError(
            ErrorCode.FETCH_TIMEOUT,
            f"{shown(self._ref)} did not come within {self._seconds:g} s; raise --fetch-timeout",
        )

    def expect(self, count: int) -> None:
        """The reference has `count` bytes in all, or at least, as far as is known by now; they are about to be read.

        Waits for room in the budget, which is not held against the reference. Raises ImageError `too_large` above the
        limit of one image.
        """
        if count > self._bytes_max:
            raise ImageError(
                ErrorCode.TOO_LARGE,
                f"{shown(self._ref)} has {count} bytes; at most {self._bytes_max} are read; raise --max-image-bytes",
            )
        if count > self._taken and self._budget is not None:
            asked_at = time.monotonic()
            self._budget.take(count - self._taken, self)
            self._deadline += time.monotonic() - asked_at
            self._taken = count

    def collect(self, chunks: Iterable[bytes]) -> bytes:
        """Join what a source gives piece by piece, holding it to the allowance; raises ImageError as `expect` does."""
        parts: list[bytes] = []
        count = 0
        for chunk in chunks:
            count += len(chunk)
            self.expect(count)
            self.seconds_left()
            parts.append(chunk)
        return b"".join(parts)


def shown(ref: str) -> str:
    """A reference as messages quote it: escaped, and not too long."""
    return repr(ref if len(ref) <= 200 else ref[:199] + "…")
