"""Workers whose clocks are a day ahead and a day behind: nothing is taken back early, and nothing stays stuck."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from chaos.arena import Arena
from chaos.ledger import Ledger, Options, Scale
from chaos.preload import compile_shim
from chaos.redelivery import held_by

ATTEMPTS_MAX = 100  # as in kill_storm
DAY_SECONDS = 86_400
LEASE_SECONDS = 2.0
RECLAIMED = ("took back a job whose worker is gone", "mended a job")


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    images: int
    kills: int


SIZES = {Scale.SLICE: Size(300, 4), Scale.FULL: Size(5_000, 60)}


def run(options: Options) -> Ledger:
    """First without any fault, where whatever is taken back is taken back early; then with kills."""
    size = SIZES[options.scale]
    with Arena(options, "clock", lease_seconds=LEASE_SECONDS) as arena:
        slow = arena.slow_refs(0.02)
        for offset in (DAY_SECONDS, -DAY_SECONDS, 0):
            arena.fleet.start_supervised(1, **clock_environment(offset, arena.folder))
        arena.until(lambda: len(arena.fleet.ready()) == 3, "three workers")
        arena.feed(size.images, refs=slow)
        arena.until(arena.drained, "the drain without faults")
        early = sum(arena.fleet.log_text().count(words) for words in RECLAIMED)
        arena.feed(size.images, first=size.images, refs=slow)
        for number in range(size.kills):
            arena.until_done(size.images + number * size.images // (size.kills + 1))
            arena.until(lambda: _busiest(arena) or arena.drained(), "a worker with work")
            if pid := _busiest(arena):
                arena.fleet.kill(pid)
                arena.count("kills")
        arena.count("clocks_off_by_a_day", 2)
        return arena.close_books(workers=3, attempts_max=ATTEMPTS_MAX, violations={"early_reclaims": early})


def _busiest(arena: Arena) -> int | None:
    """The pid of a worker that holds work, the longest at it first."""
    for pid, name in arena.fleet.ready().items():
        if held_by(arena.connection, name):
            return pid
    return None


def clock_environment(offset_seconds: int, folder: Path) -> dict[str, str]:
    """What makes a process' wall clock wrong; without a compiler, for Python's `time.time` alone."""
    if not offset_seconds:
        return {}
    library = compile_shim("clock", folder)
    if library is None:
        return {"CHAOS_PYTHON_CLOCK_OFFSET": str(offset_seconds)}
    return {"LD_PRELOAD": str(library), "CHAOS_CLOCK_OFFSET": str(offset_seconds)}
