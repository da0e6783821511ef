"""Workers paused (SIGSTOP) for three leases while others go on with their jobs, and then continued."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass

import redis

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale
from chaos.redelivery import attempts_of, held_by
from imagequeue.contract import RQ_KEY_PREFIX, decode_result, results_key

ATTEMPTS_MAX = 10
LEASE_SECONDS = 1.0
LEASES_PAUSED = 3
FETCH_SECONDS = 0.05  # so that workers hold much work at any time, and need little of the machine


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is; half of the workers are paused at once."""

    workers: int
    pauses: int


SIZES = {Scale.SLICE: Size(4, 8), Scale.FULL: Size(8, 100)}


@dataclass(frozen=True, slots=True)
class TakenBack:
    """An execution that was taken from a paused worker: whatever it publishes after `since` is a stale write."""

    job: str
    attempt: int
    since: float  # Unix seconds by Redis' clock


def run(options: Options) -> Ledger:
    """Pause and continue; then look for results of executions that had been taken back."""
    size, rng = SIZES[options.scale], random.Random(options.seed)
    taken_back: list[TakenBack] = []
    with Arena(options, "pause_storm", lease_seconds=LEASE_SECONDS) as arena:
        pids = [arena.fleet.start_bare() for _ in range(size.workers)]
        arena.feed_without_end(refs=arena.slow_refs(FETCH_SECONDS))
        while arena.faults.get("pauses", 0) < size.pauses:
            arena.until_done(arena.done() + 32)
            paused = rng.sample(pids, min(size.workers // 2, size.pauses - arena.faults.get("pauses", 0)))
            taken_back += _pause(arena, paused)
        arena.stop_feeding()
        arena.until(arena.drained, "the drain")
        stale = _stale_writes(arena.connection, taken_back)
        dropped = arena.fleet.log_text().count("the answer was dropped") + arena.fleet.log_text().count("leases lost")
        figures = {"executions_taken_back": len(taken_back), "times_a_worker_noticed": dropped}
        return arena.close_books(
            workers=size.workers, attempts_max=ATTEMPTS_MAX, violations={"stale_writes": stale}, figures=figures
        )


def _pause(arena: Arena, pids: list[int]) -> list[TakenBack]:
    """Pause these workers for three leases; what was taken from them meanwhile."""
    names = {pid: name for pid, name in arena.fleet.ready().items() if pid in pids}
    for pid in names:
        os.kill(pid, signal.SIGSTOP)
        arena.count("pauses")
    time.sleep(0.05)  # what they had sent has arrived
    held = [
        (one, attempts_of(arena.connection, one.job))
        for name in names.values()
        for one in held_by(arena.connection, name)
    ]
    time.sleep(LEASES_PAUSED * LEASE_SECONDS)
    seconds, microseconds = arena.connection.time()
    gone = [
        TakenBack(one.job, attempt, seconds + microseconds / 1e6)
        for one, attempt in held
        if arena.connection.zscore(f"{RQ_KEY_PREFIX}:wip:{one.queue}", f"{one.job}:{one.execution}") is None
    ]
    for pid in names:
        os.kill(pid, signal.SIGCONT)
    return gone


def _stale_writes(connection: redis.Redis, taken_back: list[TakenBack]) -> int:
    """Results that were published by one of these executions after it had been taken back."""
    since = {(one.job, one.attempt): one.since for one in taken_back}
    count = 0
    for _, text in connection.hscan_iter(results_key(COLLECTION), count=5000):
        result = decode_result(text)
        count += result.finished_at > since.get((result.job, result.attempt), float("inf"))
    return count
