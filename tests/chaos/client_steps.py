"""Each step of a producer and of a worker x {killed before it, killed after it, its reply lost}, through the proxy."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chaos.arena import Arena
from chaos.ledger import Ledger, Options, Scale
from chaos.saboteur import all_scripts
from chaos.tcp_proxy import Moment, Strike, TcpProxy, call_of
from imagequeue.contract import KEY_PREFIX

ATTEMPTS_MAX = 10
IMAGES = 24
PRODUCER_STEPS = ("submit",)
WORKER_STEPS = ("take", "finish", "heartbeat", "reclaim", "put_back", "reconcile", "recount", "sweep")
TURNS = frozenset({"reconcile", "recount", "sweep"})  # one worker does it for all, every so many seconds
# A client's first call of a script, and one in the middle of its work.
OCCURRENCES = {Scale.SLICE: (1,), Scale.FULL: (1, 3)}
FIRST_ONLY = TURNS | {"put_back", "reclaim"}
STRIKE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Point:
    """A place where a client is struck."""

    step: str
    occurrence: int
    what: str  # killed before, killed after, reply lost

    @property
    def moment(self) -> Moment:
        return Moment.BEFORE if self.what == "killed before" else Moment.AFTER


def points(steps: tuple[str, ...], occurrences: tuple[int, ...]) -> list[Point]:
    """Every point of these steps."""
    return [
        Point(step, occurrence, what)
        for step in steps
        for occurrence in (occurrences[:1] if step in FIRST_ONLY else occurrences)
        for what in ("killed before", "killed after", "reply lost")
    ]


def run(options: Options) -> Ledger:
    """One server, one healthy worker that mends; each point strikes one more worker, or the producer."""
    with Arena(options, "client_steps") as arena, TcpProxy(arena.port) as proxy:
        slow = arena.slow_refs(0.02)
        texts = {name: script.text for name, script in all_scripts().items()}
        for text in texts.values():
            arena.connection.script_load(text)  # so that the first call is one that runs
        healthy = arena.fleet.start_bare()
        missed: dict[str, int] = {}
        first, occurrences = 0, OCCURRENCES[options.scale]
        for point in [*points(PRODUCER_STEPS, occurrences), *points(WORKER_STEPS, occurrences)]:
            feed = partial(arena.feed, IMAGES, first=first, refs=slow, chunks=(1, 4))
            strike = Strike(call_of(texts[point.step]), point.moment, occurrence=point.occurrence)
            struck = _strike_producer if point.step in PRODUCER_STEPS else _strike_worker
            os.kill(healthy, signal.SIGSTOP)  # so that the step is the struck one's to do
            arena.connection.delete(*(f"{KEY_PREFIX}:turn:{what}" for what in TURNS))
            if struck(arena, proxy, strike, point, feed):
                arena.count(point.what)
            else:
                missed[f"{point.step} never reached"] = missed.get(f"{point.step} never reached", 0) + 1
            os.kill(healthy, signal.SIGCONT)
            first += IMAGES
            arena.until(arena.drained, f"the drain after {point}")
        return arena.close_books(workers=2, attempts_max=ATTEMPTS_MAX, violations=missed)


def _strike_producer(
    arena: Arena, proxy: TcpProxy, strike: Strike, point: Point, feed: Callable[..., subprocess.Popen[bytes]]
) -> bool:
    """Strike a feeder; when it was killed, another one goes on with its notebook."""
    feeder: list[subprocess.Popen[bytes]] = []
    if point.what != "reply lost":
        strike.act = lambda: feeder[0].kill()
    proxy.strike(strike)
    feeder.append(feed(url=proxy.url))
    struck = strike.done.wait(STRIKE_SECONDS)
    feeder[0].wait()
    if point.what != "reply lost":
        feed().wait()
    return struck


def _strike_worker(
    arena: Arena, proxy: TcpProxy, strike: Strike, point: Point, feed: Callable[..., subprocess.Popen[bytes]]
) -> bool:
    """Strike a worker that begins while there is work; put_back is what it does when it is told to stop."""
    victim: list[int] = []
    if point.what != "reply lost":
        strike.act = lambda: os.kill(victim[0], signal.SIGKILL)
    proxy.strike(strike)
    feed().wait()
    victim.append(arena.fleet.start_bare(url=proxy.url, batch_images=4))
    if point.step == "put_back":
        arena.seconds_until_next_result()
        with suppress(ProcessLookupError):
            os.kill(victim[0], signal.SIGTERM)
    struck = strike.done.wait(STRIKE_SECONDS)
    with suppress(ProcessLookupError):
        arena.fleet.kill(victim[0])
    proxy.strike(None)
    return struck
