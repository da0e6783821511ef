"""Threads for fetching: so many at once in all, and so many for one host, whose others wait in no thread."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

Call = Callable[[], None]


class Lanes:
    """Runs calls in the order in which they came, one lane per host; raises nothing that a call raises.

    A host that hangs keeps its own lane's threads and no others, however many references name it.
    """

    def __init__(self, threads: int, per_lane_max: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._per_lane_max = per_lane_max
        self._running: defaultdict[str, int] = defaultdict(int)
        self._waiting: defaultdict[str, deque[Call]] = defaultdict(deque)
        self._lock = threading.Lock()

    def submit(self, lane: str | None, call: Call) -> None:
        """Run a call as soon as there is a thread, and room in its lane; without a lane there always is."""
        if lane is None:
            self._threads.submit(call)
            return
        with self._lock:
            if self._running[lane] >= self._per_lane_max:
                self._waiting[lane].append(call)
                return
            self._running[lane] += 1
        self._threads.submit(self._run, lane, call)

    def close(self) -> None:
        """Begin no more; what runs is left to itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, lane: str, call: Call) -> None:
        try:
            call()
        finally:
            self._go_on(lane)

    def _go_on(self, lane: str) -> None:
        """Give the place in a lane to who has waited longest for it."""
        with self._lock:
            waiting = self._waiting.get(lane)
            if not waiting:
                self._waiting.pop(lane, None)
                self._running[lane] -= 1
                if not self._running[lane]:
                    del self._running[lane]
                return
            following = waiting.popleft()
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._threads.submit(self._run, lane, following)
