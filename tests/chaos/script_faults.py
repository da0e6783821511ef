"""Every n-th `redis.call` of every script raises once: afterwards everything must come to its one right result."""

from __future__ import annotations

import time
from collections import Counter

import redis

from chaos.bench import Bench
from chaos.ledger import Findings, Ledger, Options, versions
from chaos.saboteur import all_scripts
from chaos.scenarios import SCENARIOS, Scenario
from imagequeue.errors import RedisRefused
from imagequeue_worker.embedded_redis import EmbeddedRedis

REFUSED = (redis.ResponseError, RedisRefused)


def run(options: Options) -> Ledger:
    """All points; there is no smaller slice of a hundred per cent."""
    began, points = time.monotonic(), Counter[str]()
    parts: list[Findings] = []
    with EmbeddedRedis(options.folder / f"script-faults-{time.monotonic_ns()}") as server:
        bench = Bench(server.url)
        for script, scenario in SCENARIOS:
            found = _strike_every_call(bench, script, scenario)
            points[script] += len(found)
            parts += found
        ran_on = versions(bench.connection)
        bench.close()
    return Ledger(
        storm="script_faults",
        scale=options.scale,
        seed=options.seed,
        workers=0,
        faults={"points": len(parts), **{f"in {script}": count for script, count in points.items()}},
        findings=Findings.sum_of(parts),
        seconds=round(time.monotonic() - began, 1),
        versions=ran_on,
        notes=without_scenario(),
    )


def without_scenario() -> list[str]:
    """Scripts whose fault points are not known here, in words."""
    return [f"no scenario for {name}" for name in sorted(set(all_scripts()) - {script for script, _ in SCENARIOS})]


def _strike_every_call(bench: Bench, name: str, scenario: Scenario) -> list[Findings]:
    """One finding for each call that the script makes in this scenario."""
    found: list[Findings] = []
    while True:
        number = len(found) + 1
        bench.clear()
        act = scenario(bench)
        bench.saboteur.aim(name, number)
        refused = False
        try:
            act()
        except REFUSED:
            refused = True
        bench.saboteur.rest()
        if not bench.struck():
            if not found:
                raise AssertionError(f"the scenario of {name} does not call it")
            return found
        if refused:
            act()  # as its caller does, a moment later
        bench.mend()
        findings = bench.audit()
        found.append(findings.at(f"{scenario.__name__}, call {number}"))
