"""A picture whose decoder kills its process, and one that exhausts memory, each among 63 good ones of one job."""

from __future__ import annotations

import time

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale, Spread
from chaos.notebook import Notebook
from imagequeue import Image, Producer
from imagequeue.contract import ErrorCode

ATTEMPTS_MAX = 20
GOOD = 63
POISONS = ("fault:kill", "fault:memory")
ROUNDS = {Scale.SLICE: 1, Scale.FULL: 5}


def run(options: Options) -> Ledger:
    """Each poison in turn, on two supervised workers; the recovery is the time until all 64 have their results."""
    seconds: list[float] = []
    truth = dict.fromkeys(POISONS, ErrorCode.WORKER_LOST.value)
    with (
        Arena(options, "poison", truth=truth) as arena,
        Producer(arena.server.url) as producer,
        Notebook(arena.notebook) as notebook,
    ):
        arena.fleet.start_supervised(2)
        arena.until(lambda: len(arena.fleet.ready()) == 2, "two workers")
        for number in range(ROUNDS[options.scale]):
            for poison in POISONS:
                refs = arena.world.refs
                good = [Image(f"{poison} {number}.{one}", refs[one % len(refs)]) for one in range(GOOD)]
                images = [*good[:20], Image(f"{poison} {number}", poison), *good[20:]]
                began = time.monotonic()
                producer.submit_many(images, chunk=64, collection=COLLECTION)
                notebook.note(images)
                arena.until(arena.drained, f"the results of {poison} and its neighbours")
                seconds.append(time.monotonic() - began)
                arena.count(poison)
        return arena.close_books(workers=2, attempts_max=ATTEMPTS_MAX, recovery_seconds=Spread.of(seconds))
