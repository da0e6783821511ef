"""The network between everybody and Redis is cut, delayed, held half open, and loses replies of commands that ran."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from chaos.arena import Arena
from chaos.ledger import Ledger, Options, Scale, Spread
from chaos.tcp_proxy import TcpProxy

ATTEMPTS_MAX = 10
RESULTS_BETWEEN = 32  # so that each fault meets work
LONG_EVERY = 10  # every tenth fault lasts longer than a lease
FAULTS = ("cuts", "delays", "held_half_open", "replies_swallowed")


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    workers: int
    faults: int


SIZES = {Scale.SLICE: Size(2, 16), Scale.FULL: Size(3, 500)}


def run(options: Options) -> Ledger:
    """Workers and producer see Redis through the proxy; the checker sees it directly."""
    size, rng = SIZES[options.scale], random.Random(options.seed)
    recoveries: list[float] = []
    obediences: list[float] = []
    with Arena(options, "network_faults") as arena, TcpProxy(arena.port) as proxy:
        arena.fleet.start_supervised(size.workers, url=proxy.url)
        arena.feed_without_end(url=proxy.url, refs=arena.slow_refs(0.01))
        for number in range(size.faults):
            arena.until_done(arena.done() + RESULTS_BETWEEN)
            time.sleep(rng.uniform(0.0, 0.05))
            kind = rng.choice(FAULTS)
            _break(proxy, kind, rng)
            long = number % LONG_EVERY == LONG_EVERY - 1
            time.sleep(rng.uniform(1.0, 2.5) if long else rng.uniform(0.02, 0.3))
            proxy.heal()
            arena.count(kind)
            recoveries.append(arena.seconds_until_next_result())
            obediences.append(recoveries[-1] + arena.seconds_until_obedient())
        arena.stop_feeding()
        return arena.close_books(
            workers=size.workers,
            attempts_max=ATTEMPTS_MAX,
            recovery_seconds=Spread.of(recoveries),
            obedience_seconds=Spread.of(obediences),
        )


def _break(proxy: TcpProxy, kind: str, rng: random.Random) -> None:
    match kind:
        case "cuts":
            proxy.cut()
        case "delays":
            proxy.delay(rng.uniform(0.01, 0.2))
        case "held_half_open":
            proxy.hold()
        case "replies_swallowed":
            proxy.swallow(rng.randint(1, 4))
