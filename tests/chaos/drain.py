"""Workers told to stop (SIGTERM) at full load, again and again: no attempt is spent, and the order is kept."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from itertools import pairwise

from chaos.arena import Arena
from chaos.fleet import wait_for_ends
from chaos.ledger import Ledger, Options, Scale
from imagequeue import Priority
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX, job_key, queue_key

QUEUE = QUEUES[1]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is. One worker: with two, jobs that were put back would rightly overtake each other."""

    drains: int


SIZES = {Scale.SLICE: Size(8), Scale.FULL: Size(100)}


def run(options: Options) -> Ledger:
    """In the end every image has been taken once; after each drain the queue is in the order of submission."""
    rng = random.Random(options.seed)
    disorder = kept = 0
    with Arena(options, "drain") as arena:
        arena.feed_without_end(refs=arena.slow_refs(0.01), urgencies=(Priority.NORMAL,))
        arena.until(lambda: arena.connection.llen(queue_key(QUEUE)) > 20, "a full queue")
        for _ in range(SIZES[options.scale].drains):
            pid = arena.fleet.start_bare()
            arena.seconds_until_next_result()
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(pid, signal.SIGTERM)
            wait_for_ends([pid])
            arena.fleet.bare.remove(pid)
            arena.count("drains")
            numbers = _queued_numbers(arena)
            disorder += sum(later < earlier for earlier, later in pairwise(numbers))
            kept += arena.connection.zcard(f"{RQ_KEY_PREFIX}:wip:{QUEUE}")
        arena.stop_feeding()
        arena.fleet.start_bare()
        violations = {"out_of_order": disorder, "leases_kept": kept}
        return arena.close_books(workers=1, attempts_max=1, violations=violations)


def _queued_numbers(arena: Arena) -> list[int]:
    """The first image's number of each queued job, head first."""
    jobs = arena.connection.lrange(queue_key(QUEUE), 0, -1)
    pipeline = arena.connection.pipeline(transaction=False)
    for job in jobs:
        pipeline.hget(job_key(job.decode()), "ids")
    return [int(ids.partition(b"\n")[0]) for ids in pipeline.execute() if ids]
