"""Waiting for work without popping it, and without polling.

A worker that found nothing arms one watcher per empty queue and sleeps on a pipe. `BLMOVE q q LEFT LEFT` returns as
soon as the list has an element and leaves the list as it was, so a worker that dies here takes nothing with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping

import redis

from imagequeue.contract import queue_key

_BLOCK_SECONDS = 2  # below every socket timeout
_RETRY_SECONDS = 0.5


class Waker:
    """Wakes one sleeping thread; wake() may be called from threads and from signal handlers."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def wake(self) -> None:
        """End the current or the next sleep."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full: the sleeper is awake anyway
            os.write(self._write_end, b"!")

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let every signal that has a handler wake, too. For the main thread.

        A handler that wakes is not enough: a signal that comes just before the sleep begins is only noted, and its
        handler would run when the sleep is over.
        """
        before = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before, warn_on_full_buffer=False)

    def sleep(self, seconds: float) -> bool:
        """Sleep until woken, but not longer; True when woken."""
        ready, _, _ = select.select([self._read_end], [], [], max(0.0, seconds))
        if ready:
            self.forget()
        return bool(ready)

    def forget(self) -> None:
        """Let the wakes so far end no sleep."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read_end, 4096):
                pass


class QueueWatcher(threading.Thread):
    """Blocks on one queue while armed, and wakes the worker when the queue has work."""

    def __init__(self, queue: str, connection: redis.Redis, waker: Waker) -> None:
        super().__init__(name=f"watch-{queue}", daemon=True)
        self._key = queue_key(queue)
        self._connection = connection
        self._waker = waker
        self._armed = threading.Event()

    def arm(self) -> None:
        """Watch until there is work once."""
        self._armed.set()

    def is_armed(self) -> bool:
        """Whether it watches, and has seen no work yet."""
        return self._armed.is_set()

    def run(self) -> None:
        """Watch for ever; the thread ends with its process."""
        while self._armed.wait():
            try:
                found = self._connection.blmove(self._key, self._key, _BLOCK_SECONDS, "LEFT", "LEFT")
            except redis.RedisError:
                # The worker meets the same error in its next take, and says so. A server that became a replica would
                # go on answering: the next connection leads to wherever the address does by then.
                self._connection.connection_pool.disconnect()
                threading.Event().wait(_RETRY_SECONDS)
                continue
            if found is not None:
                self._armed.clear()
                self._waker.wake()


class WorkSignal:
    """What a worker sleeps on: its queues' watchers, and whoever else wakes it."""

    def __init__(self, waker: Waker, connections: Mapping[str, redis.Redis]) -> None:
        self._waker = waker
        self._watched: tuple[str, ...] = ()
        self._watchers = {queue: QueueWatcher(queue, connection, waker) for queue, connection in connections.items()}

    def start(self) -> None:
        """Start the watchers; not before a fork."""
        for watcher in self._watchers.values():
            watcher.start()

    def watch(self, queues: Iterable[str]) -> None:
        """Watch these queues, which are empty."""
        self._watched = tuple(queues)
        for queue in self._watched:
            self._watchers[queue].arm()

    def has_fired(self) -> bool:
        """Whether one of the queues has had work since they are watched."""
        return not all(self._watchers[queue].is_armed() for queue in self._watched)

    def sleep(self, seconds: float) -> bool:
        """Sleep until one of the queues has work or somebody wakes us, but not longer; True when woken."""
        return self._waker.sleep(seconds)

    def forget_wakes(self) -> None:
        """Let the wakes so far end no sleep."""
        self._waker.forget()
