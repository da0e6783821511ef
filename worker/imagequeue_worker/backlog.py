"""What the queues still have to do, and how fast the fleet does it: one read-only script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import redis

from imagequeue.contract import RATES_KEY, RQ_KEY_PREFIX, WAITING_KEY
from imagequeue.scripts import script_text


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """What one queue still has to do. `oldest_submitted_at`: Unix seconds, None when nothing waits."""

    queue: str
    images_waiting: int
    images_leased: int
    oldest_submitted_at: float | None

    @property
    def images(self) -> int:
        """Images that no worker holds yet."""
        return max(0, self.images_waiting - self.images_leased)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the fleet has to do, and how fast it does it (images per second; 0 when never measured)."""

    now: float
    images_per_second: float
    queues: list[QueueBacklog]


def read_backlog(connection: redis.Redis, queues: Sequence[str]) -> Backlog:
    """What the queues still have to do; one read-only script."""
    script = connection.register_script(script_text("backlog", "imagequeue_worker.scripts"))
    now, rate, *cells = script([WAITING_KEY, RATES_KEY], [RQ_KEY_PREFIX, *queues])
    rows = zip(queues, cells[::3], cells[1::3], cells[2::3], strict=True)
    return Backlog(
        float(now),
        float(rate),
        [
            QueueBacklog(queue, int(waiting), int(leased), float(oldest) if oldest else None)
            for queue, waiting, leased, oldest in rows
        ],
    )
