"""How far and how fast a worker process gets: what its watchdog and its fleet want to know."""

from __future__ import annotations

import time


class Progress:
    """When a stage last advanced, and how fast images go through; written by stages, read by the heartbeat."""

    def __init__(self) -> None:
        self._advanced_at = time.monotonic()
        self._rests_until = 0.0
        self.images_per_second: float | None = None

    def advance(self) -> None:
        """Note that something was done."""
        self._advanced_at = time.monotonic()

    def rest(self, seconds: float) -> None:
        """Note that nothing will be done for so long, on purpose."""
        self._rests_until = time.monotonic() + seconds

    def overdue_seconds(self) -> float:
        """How long nothing was done, rests apart."""
        return max(0.0, time.monotonic() - max(self._advanced_at, self._rests_until))

    def stalled_seconds(self) -> float:
        """How long nothing was done."""
        return time.monotonic() - self._advanced_at

    def measure(self, images: int, seconds: float) -> None:
        """Take a batch into the rate: an exponential mean, so that one odd batch does not scale a fleet."""
        if images and seconds > 0:
            rate = images / seconds
            old = self.images_per_second
            self.images_per_second = rate if old is None else 0.8 * old + 0.2 * rate
