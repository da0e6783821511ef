"""The primary is killed or demoted under load, with sentinels that name the next one; everybody knows only their URL.

Acknowledged is what a replica has confirmed. The server that was killed comes back as the replica of the other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from chaos.arena import STANDSTILL_SECONDS, Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale, Spread
from imagequeue import Priority, Producer
from sentinel_site import SentinelSite

ATTEMPTS_MAX = 10
RESULTS_BETWEEN = 64


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    workers: int
    failovers: int


SIZES = {Scale.SLICE: Size(2, 2), Scale.FULL: Size(3, 10)}


class SentinelArena(Arena):
    """An arena whose server is a primary, a replica and three sentinels."""

    def __init__(self, options: Options) -> None:
        super().__init__(options, "failover")
        self.site = self.server = SentinelSite(self.folder / "site")  # type: ignore[assignment]


def run(options: Options) -> Ledger:
    """Kill and demote by turns.

    The recovery is the seconds from the new primary's first answer to the result of an image that is submitted then, by
    a producer that was there before: both sides have found it. It is not acknowledged by a replica, for there is none.
    """
    size = SIZES[options.scale]
    recoveries: list[float] = []
    obediences: list[float] = []
    with SentinelArena(options) as arena, Producer(arena.site.url) as producer:
        arena.fleet.start_supervised(size.workers)
        arena.feed_without_end(durable=True, replicas=1)
        for number in range(size.failovers):
            arena.until_done(arena.done() + RESULTS_BETWEEN)
            if number % 2:
                arena.site.demote_primary()
                arena.count("demotions")
                answered_at = time.monotonic()
            else:
                killed = arena.site.kill_primary()
                arena.count("kills")
                answered_at = time.monotonic()
            probe = f"probe-{number}"
            producer.submit(arena.world.refs[0], id=probe, collection=COLLECTION, priority=Priority.HIGH)
            producer.wait([probe], collection=COLLECTION, timeout=STANDSTILL_SECONDS)
            recoveries.append(time.monotonic() - answered_at)
            obediences.append(recoveries[-1] + arena.seconds_until_obedient())
            if not number % 2:
                killed.start()
            arena.site.wait_until_replicated()
        arena.stop_feeding()
        return arena.close_books(
            workers=size.workers,
            attempts_max=ATTEMPTS_MAX,
            recovery_seconds=Spread.of(recoveries),
            obedience_seconds=Spread.of(obediences),
        )
