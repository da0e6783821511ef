"""How long a dead worker's jobs are away: from its death until each is back in its queue, taken again, or finished."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import redis

from imagequeue.contract import QUEUES, RQ_KEY_PREFIX, job_key


@dataclass(frozen=True, slots=True)
class Held:
    """An execution that a worker holds."""

    queue: str
    job: str
    execution: str


def held_by(connection: redis.Redis, worker: str) -> list[Held]:
    """What a worker holds now, as Redis knows it."""
    found = []
    members = connection.smembers(f"{RQ_KEY_PREFIX}:worker:{worker}:executions")
    for queue in QUEUES:
        for member in members:
            if connection.zscore(f"{RQ_KEY_PREFIX}:wip:{queue}", member) is not None:
                job, _, execution = member.decode().rpartition(":")
                found.append(Held(queue, job, execution))
    return found


@dataclass(slots=True)
class RedeliveryWatch:
    """Jobs that are away, and how long those were that are back. Call `look` often."""

    connection: redis.Redis
    seconds: list[float] = field(default_factory=list)
    _away: dict[Held, float] = field(default_factory=dict)

    def note_death(self, held: Iterable[Held], at: float) -> None:
        """A worker died, at this monotonic time, that held these."""
        self._away.update(dict.fromkeys(held, at))

    def look(self) -> None:
        """Note which leases have been taken from the dead; a lease that is gone is a job that is back, or finished."""
        if not self._away:
            return
        pipeline = self.connection.pipeline(transaction=False)
        for held in self._away:
            pipeline.zscore(f"{RQ_KEY_PREFIX}:wip:{held.queue}", f"{held.job}:{held.execution}")
        now = time.monotonic()
        for (held, died_at), score in zip(list(self._away.items()), pipeline.execute(), strict=True):
            if score is None:
                self.seconds.append(now - died_at)
                del self._away[held]


def attempts_of(connection: redis.Redis, job: str) -> int:
    """How often a job has been taken."""
    return int(connection.hget(job_key(job), "attempts") or 0)
