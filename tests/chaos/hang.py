"""A decoder that hangs for ever, one that spins, one that holds the interpreter's lock; each among good pictures."""

from __future__ import annotations

import time

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale, Spread
from chaos.notebook import Notebook
from imagequeue import Image, Producer
from imagequeue.contract import ErrorCode

ATTEMPTS_MAX = 20
GOOD = 7
FAULTS = ("fault:hang", "fault:spin", "fault:seize")
STALL_SECONDS, ALONE_SECONDS = 3, 4  # more than a good picture needs on a machine that does much else
ROUNDS = {Scale.SLICE: 1, Scale.FULL: 5}


def run(options: Options, faults: tuple[str, ...] = FAULTS) -> Ledger:
    """Each in turn, on two supervised workers; the recovery is the time until all have their results."""
    seconds: list[float] = []
    truth = dict.fromkeys(faults, ErrorCode.WORKER_LOST.value)
    with (
        Arena(options, "hang", truth=truth) as arena,
        Producer(arena.server.url) as producer,
        Notebook(arena.notebook) as notebook,
    ):
        arena.fleet.start_supervised(
            2, "--stall-timeout", str(STALL_SECONDS), "--isolation-seconds", str(ALONE_SECONDS)
        )
        arena.until(lambda: len(arena.fleet.ready()) == 2, "two workers")
        for number in range(ROUNDS[options.scale]):
            for fault in faults:
                refs = arena.world.refs
                good = [Image(f"{fault} {number}.{one}", refs[one]) for one in range(GOOD)]
                images = [*good[:3], Image(f"{fault} {number}", fault), *good[3:]]
                began = time.monotonic()
                producer.submit_many(images, chunk=len(images), collection=COLLECTION)
                notebook.note(images)
                arena.until(arena.drained, f"the results of {fault} and its neighbours")
                seconds.append(time.monotonic() - began)
                arena.count(fault)
        return arena.close_books(workers=2, attempts_max=ATTEMPTS_MAX, recovery_seconds=Spread.of(seconds))
