"""How far it is, again and again, and in one line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from imagequeue.errors import WaitTimeout
from imagequeue.reading import Progress
from imagequeue.status import QueueStatus

RATE_SNAPSHOTS: Final = 10  # the rate is measured over so many of them


def snapshots(
    look: Callable[[], Progress], collection: str, interval: float, timeout: float | None
) -> Iterator[tuple[Progress, float | None]]:
    """The progress now and at every change, looked for every `interval` seconds, with the images/s of late.

    Ends when nothing is pending; raises WaitTimeout when that is not so after `timeout` seconds.
    """
    started = time.monotonic()
    recent: deque[tuple[float, int]] = deque(maxlen=RATE_SNAPSHOTS)
    before: Progress | None = None
    while True:
        now, at = look(), time.monotonic()
        recent.append((at, now.ok + now.error))
        if now != before:
            yield now, _rate(recent)
            before = now
        if not now.pending:
            return
        pause = interval if timeout is None else min(interval, started + timeout - at)
        if pause <= 0:
            raise WaitTimeout(
                f"{now.pending} images of {collection} have no result after {timeout:g} s; they stay accepted: wait "
                "longer, or see that workers run (`imagequeue status`)",
                (),
            )
        time.sleep(pause)


def line_of(collection: str, now: Progress, rate: float | None) -> str:
    """A collection in one line: how much is done, what became of it, how fast, how long still."""
    done = now.ok + now.error
    share = f" ({done / now.accepted:.1%})" if now.accepted else ""
    parts = [f"{done:,} of {now.accepted:,} done{share}", f"{now.ok:,} ok", f"{now.error:,} error"]
    if now.pending:
        parts.append(f"{now.pending:,} pending")
        if rate:
            parts += [f"{rate:,.1f} images/s", f"{duration(now.pending / rate)} left"]
    return f"{collection}: {', '.join(parts)}"


def status_line(status: QueueStatus) -> str:
    """Everything in one line: what waits in which queue, who works, how long that takes."""
    waiting = sum(queue.images for queue in status.queues)
    queues = [f"{queue.name} {queue.images:,}" for queue in status.queues if queue.images]
    paused = [queue.name for queue in status.queues if queue.paused]
    parts = [f"{waiting:,} waiting" + (f" ({', '.join(queues)})" if queues else "")]
    if paused:
        parts.append(f"paused: {', '.join(paused)}")
    if not status.workers:
        parts.append("no worker is alive: start one with `imagequeue-worker run`")
    else:
        rate = status.images_per_second
        parts.append(f"{_counted(len(status.workers), 'worker')}" + (f", {rate:,.1f} images/s" if rate else ""))
        if waiting and rate:
            parts.append(f"{duration(waiting / rate)} left")
    ok, error = (sum(getattr(item, name) for item in status.collections) for name in ("ok", "error"))
    parts.append(f"{_counted(len(status.collections), 'collection')}: {ok:,} ok, {error:,} error")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """Seconds for people: `45 s`, `12 min`, `3.5 h`, `2.1 d`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def _rate(recent: deque[tuple[float, int]]) -> float | None:
    (first, before), (last, after) = recent[0], recent[-1]
    return max(0.0, (after - before) / (last - first)) if last > first else None


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
