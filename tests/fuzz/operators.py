"""Random operators through every native path and the portable engine, for as long as wanted: the same bytes.

    python tests/fuzz/operators.py [--seconds 600] [--seed 0]

The strategies are those of tests/native; a failure shrinks to a small case, which is printed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded

sys.path.insert(0, str(Path(__file__).parents[1]))

from imagequeue_worker.blas import limit_blas_threads
from native.layers import NATIVE_ENGINES, STRATEGIES, Case, differing

EXAMPLES = 500  # of a kind in a round


def check(kind: str, seed: int, examples: int) -> None:
    """Compare that many operators of a kind; raises AssertionError with the smallest that differs."""

    @seeded(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(STRATEGIES[kind]())
    def compare(case: Case) -> None:
        assert differing(case) == {}

    compare()


@click.command()
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(seconds: float, seed: int) -> None:
    """Fuzz round by round, every kind in each."""
    if not NATIVE_ENGINES:
        raise click.ClickException("there is no native engine to compare; imagequeue-worker info says why")
    limit_blas_threads()
    started, rounds = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        for kind in STRATEGIES:
            check(kind, seed + rounds, EXAMPLES)
        rounds += 1
    total = rounds * EXAMPLES * len(STRATEGIES)
    click.echo(
        f"{total:,} operators, engines {', '.join(NATIVE_ENGINES)}, {time.monotonic() - started:.0f} s: 0 differing; "
        f"seeds {seed} to {seed + rounds - 1}"
    )


if __name__ == "__main__":
    main()
