"""The server is killed and started again under load, again and again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale, Spread
from chaos.notebook import read_notebook
from chaos.servers import start_and_load
from imagequeue.contract import pending_key, results_key

ATTEMPTS_MAX = 10
RESULTS_BETWEEN = 64


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    workers: int
    restarts: int


SIZES = {Scale.SLICE: Size(2, 6), Scale.FULL: Size(3, 50)}


def run(options: Options) -> Ledger:
    """With an append-only file that is synced every second, as servers come."""
    return _storm(options, "redis_restart", durable=False)


def run_durable(options: Options) -> Ledger:
    """With durable submits on a server that syncs before it answers."""
    return _storm(options, "redis_restart_durable", durable=True)


def _storm(options: Options, name: str, *, durable: bool) -> Ledger:
    """Kill, wait a moment, start; the seconds until the next result are the recovery."""
    size, rng = SIZES[options.scale], random.Random(options.seed)
    recoveries: list[float] = []
    obediences: list[float] = []
    with Arena(options, name, durable=durable) as arena:
        arena.fleet.start_supervised(size.workers)
        arena.feed_without_end(durable=durable)
        gone: set[str] = set()
        for _ in range(size.restarts):
            arena.until_done(arena.done() + RESULTS_BETWEEN)
            time.sleep(rng.uniform(0.0, 0.3))
            arena.server.kill()
            noted = set(read_notebook(arena.notebook))
            time.sleep(rng.uniform(0.0, 0.5))
            start_and_load(arena.server)
            arena.count("restarts")
            recoveries.append(arena.seconds_until_next_result())
            obediences.append(recoveries[-1] + arena.seconds_until_obedient())
            if not durable:
                gone |= _unknown(arena, noted)
        arena.stop_feeding()
        return arena.close_books(
            workers=size.workers,
            attempts_max=ATTEMPTS_MAX,
            recovery_seconds=Spread.of(recoveries),
            obedience_seconds=Spread.of(obediences),
            forgiven=gone,
        )


def _unknown(arena: Arena, noted: set[str]) -> set[str]:
    """What was acknowledged before the kill, and what the server that came back does not know.

    A server that syncs each second puts off writing, too, for up to 2 s while the disk is busy with the sync before:
    what it has acknowledged meanwhile is in its memory alone. Durable submits are there for that.
    """
    known = set(arena.connection.hkeys(pending_key(COLLECTION)))  # first: images move from here to the results
    known |= set(arena.connection.hkeys(results_key(COLLECTION)))
    return noted - {id_.decode() for id_ in known}
