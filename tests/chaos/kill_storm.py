"""Workers killed with SIGKILL, again and again, without and with a supervisor, while a producer feeds them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.arena import Arena
from chaos.ledger import Ledger, Options, Scale, Spread
from chaos.redelivery import RedeliveryWatch, held_by

ATTEMPTS_MAX = 100  # ten losses (--losses-max) since the last image of a job that got a result, and jobs have several
DEPTH_LIMIT = 500  # images that wait at any time, and are left when the killing has ended


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is, at least. The full storm has the default lease: its redelivery is a published figure."""

    workers: int
    images: int
    kills: int
    lease_seconds: float
    fetch_seconds: float  # of each image: workers hold work at any time, and leave the machine some room


SIZES = {Scale.SLICE: Size(2, 2_000, 30, 1.0, 0.01), Scale.FULL: Size(4, 100_000, 1_000, 9.0, 0.02)}
SUPERVISED_SIZES = {Scale.SLICE: Size(2, 800, 8, 2.0, 0.01), Scale.FULL: Size(4, 20_000, 100, 9.0, 0.03)}


def run(options: Options) -> Ledger:
    """Bare workers: what they held comes back when its lease has ended."""
    size = SIZES[options.scale]
    with Arena(options, "kill_storm", lease_seconds=size.lease_seconds) as arena:
        return _run_bare(arena, size, _Spared(size).victims)


def _run_bare(arena: Arena, size: Size, victims: Callable[[list[int]], list[int]]) -> Ledger:
    for _ in range(size.workers):
        arena.fleet.start_bare()
    return _storm(arena, size, victims, arena.fleet.start_bare)


def run_supervised(options: Options) -> Ledger:
    """Children of `imagequeue-worker run`: it takes back at once what a dead child held."""
    size = SUPERVISED_SIZES[options.scale]
    with Arena(options, "kill_storm_supervised", lease_seconds=size.lease_seconds) as arena:
        arena.fleet.start_supervised(size.workers)
        return _storm(arena, size, lambda ready: ready, lambda: None)


class _Spared:
    """Who is not killed for now: it takes a worker that has been connected for a whole lease to take back a lease.

    Half of the workers are spared, in turns: the one spared longest is given up when the next has lived for a lease.
    """

    def __init__(self, size: Size) -> None:
        self._count = size.workers // 2
        self._turn_seconds = 2 * size.lease_seconds
        self._ripe_seconds = 1.5 * size.lease_seconds
        self._spared: dict[int, float] = {}  # pid -> since when

    def victims(self, ready: list[int]) -> list[int]:
        """Those of the workers, the longest at work first, that may be killed."""
        now = time.monotonic()
        self._spared = {pid: since for pid, since in self._spared.items() if pid in ready}
        oldest, *others = self._spared or (None,)
        if oldest is not None and len(self._spared) == self._count and self._may_give_up(oldest, others, now):
            del self._spared[oldest]
        for pid in ready:
            if len(self._spared) < self._count and pid != oldest:
                self._spared.setdefault(pid, now)
        return [pid for pid in ready if pid not in self._spared]

    def _may_give_up(self, oldest: int, others: list[int], now: float) -> bool:
        ripe = all(now - self._spared[pid] > self._ripe_seconds for pid in others[:1])
        return ripe and now - self._spared[oldest] > self._turn_seconds


def _storm(
    arena: Arena, size: Size, victims: Callable[[list[int]], list[int]], replace: Callable[[], object]
) -> Ledger:
    """Kill whoever of the `victims` has worked longest, spaced so that some batches can finish in between."""
    rng = random.Random(arena.options.seed)
    watch = RedeliveryWatch(arena.connection)
    arena.feed_without_end(depth_limit=DEPTH_LIMIT, refs=arena.slow_refs(size.fetch_seconds))
    images_between = size.images // (size.kills + 1)
    done_at_kill = 0

    def may_kill() -> bool:
        watch.look()
        done = arena.done()
        due = done > done_at_kill and done >= (arena.faults.get("kills", 0) + 1) * images_between
        return due and bool(victims(list(arena.fleet.ready())))

    while arena.faults.get("kills", 0) < size.kills:
        arena.until(may_kill, "a batch between two kills")
        time.sleep(rng.uniform(0.0, 0.05))  # anywhere in a batch
        names = arena.fleet.ready()
        pid = next(iter(victims(list(names))), None)
        if pid is None:
            continue
        died_at = time.monotonic()
        arena.fleet.kill(pid)
        watch.note_death(held_by(arena.connection, names[pid]), died_at)
        arena.count("kills")
        done_at_kill = arena.done()
        replace()

    def drained() -> bool:
        watch.look()
        return arena.drained()

    arena.until(lambda: drained() or arena.done() >= size.images, "the rest of the images")
    arena.stop_feeding()
    arena.until(drained, "the drain")
    return arena.close_books(
        workers=size.workers, attempts_max=ATTEMPTS_MAX, redelivery_seconds=Spread.of(watch.seconds)
    )
