"""The server is killed while a script runs: nothing of the script may be there when it is back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import redis

from chaos.bench import Bench
from chaos.ledger import Findings, Ledger, Options, Scale, versions
from chaos.saboteur import Sabotage
from chaos.scenarios import SCENARIOS, Scenario
from chaos.script_faults import without_scenario
from chaos.servers import start_and_load
from imagequeue.connection import connect
from imagequeue.errors import ImageQueueError
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port

POINTS_PER_SCRIPT = {Scale.SLICE: 2, Scale.FULL: 1_000}  # the full run strikes every call
CALLS_MAX = 200
BUSY_MS = 5  # after so long other clients are told that a script runs
BUSY_SECONDS = 120.0


def run(options: Options) -> Ledger:
    """For each script some of its calls, or all, never return; the server is killed there, and started again."""
    began, rng = time.monotonic(), random.Random(options.seed)
    parts: list[Findings] = []
    folder = options.folder / f"server-kills-{time.monotonic_ns()}"
    with EmbeddedRedis(folder, port=free_port(), options={"lua-time-limit": str(BUSY_MS)}) as server:
        bench = Bench(server.url)
        for name, scenario in SCENARIOS:
            calls = _count_calls(bench, name, scenario)
            chosen = sorted(rng.sample(range(1, calls + 1), min(calls, POINTS_PER_SCRIPT[options.scale])))
            parts += [_kill_at(bench, server, name, scenario, number) for number in chosen]
        ran_on = versions(bench.connection)
        bench.close()
    return Ledger(
        storm="server_kills",
        scale=options.scale,
        seed=options.seed,
        workers=0,
        faults={"server_kills_in_scripts": len(parts), "scripts": len({script for script, _ in SCENARIOS})},
        findings=Findings.sum_of(parts),
        seconds=round(time.monotonic() - began, 1),
        versions=ran_on,
        notes=without_scenario(),
    )


def _count_calls(bench: Bench, name: str, scenario: Scenario) -> int:
    """How many calls the script makes in this scenario."""
    for number in range(1, CALLS_MAX):
        bench.clear()
        act = scenario(bench)
        bench.saboteur.aim(name, number)
        with suppress(redis.ResponseError, ImageQueueError):
            act()
        if not bench.struck():
            return number - 1
    raise AssertionError(f"{name} makes more than {CALLS_MAX} calls; give it a smaller scenario")


def _kill_at(bench: Bench, server: EmbeddedRedis, name: str, scenario: Scenario, number: int) -> Findings:
    bench.clear()
    act = scenario(bench)
    bench.saboteur.aim(name, number, Sabotage.SPIN)
    caller = threading.Thread(target=_ignore_errors, args=(act,))
    caller.start()
    _wait_until_busy(server.url)
    server.kill()
    caller.join()
    bench.saboteur.rest()
    start_and_load(server)
    if bench.struck():
        raise AssertionError("the server kept what a script wrote that never ended")
    act()  # as its caller does when Redis is back
    bench.mend()
    return bench.audit().at(f"{scenario.__name__}, killed at call {number}")


def _ignore_errors(act: Callable[[], object]) -> None:
    with suppress(redis.RedisError, ImageQueueError):
        act()


def _wait_until_busy(url: str) -> None:
    """Return when the server answers that it runs a script."""
    deadline = time.monotonic() + BUSY_SECONDS
    with connect(url, resend=False) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.ResponseError as error:
                if "BUSY" in str(error):
                    return
                raise
            time.sleep(0.001)
    raise AssertionError("the script never began to spin")
