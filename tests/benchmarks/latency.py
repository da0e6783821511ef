"""Milliseconds from submission until the producer sees the result: idle, and at a share of what the system can do.

    python tests/benchmarks/latency.py [--net FOLDER] [--images FOLDER] [--peers]

Idle is one image at a time, with a pause before each. Under load, arrivals are Poisson at 50 % and 90 % of the rate
that the same processes have just reached, and an image's time runs from when it was due, whether or not the client
could send it then: no coordinated omission. Peers that gather requests do not do so here: each image is its own.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

sys.path[:0] = [str(Path(__file__).parent / name) for name in ("peers", "peers/systems")]

from machine import describe_machine  # noqa: E402
from near_end import Entry, SystemFailedError  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import PEERS_PYTHON, Stage, WrongAnswersError, check_peers, lineup, staged  # noqa: E402

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
PEERS = ("RQ SimpleWorker, a job per image", "Celery", "mosec")
LOADS = (0.5, 0.9)
PERCENTILES = (50.0, 99.0, 99.9)


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent do not exceed: nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def measure_turn(
    stage: Stage, entry: Entry, workers: int, count: int, pause_ms: float, least: float, seed: int
) -> Iterator[tuple[str, float, list[float]]]:
    """Each load's name, its arrivals per second (0: one at a time), and seconds of each image."""
    refs = stage.refs(count)
    with stage.running(entry, workers) as system:
        yield "idle", 0.0, system.idle(refs, pause_ms / 1000)
        capacity = stage.turn(system, count, least).images_per_second
        for load in LOADS:
            yield f"{load:.0%}", load * capacity, system.open_loop(refs, load * capacity, seed)


def single(entry: Entry) -> Entry:
    """Each image by itself, also where the capacity is measured: gathering would be waited for, chunks are cheaper."""
    return replace(entry, setup=entry.setup | {"batches": False, "chunk": 1})


def rows_of(found: dict[str, dict[str, list[tuple[float, list[float]]]]]) -> list[dict[str, Any]]:
    """Medians over the rounds of each round's percentiles."""
    return [
        {
            "system": name,
            "load": load,
            "arrivals/s": round(statistics.median(rate for rate, _ in rounds), 1) or "one at a time",
            **{
                f"p{percent:g} ms": round(
                    1000 * statistics.median(percentile(seconds, percent) for _, seconds in rounds), 2
                )
                for percent in PERCENTILES
            },
        }
        for name, loads in found.items()
        for load, rounds in loads.items()
    ]


@click.command(help=__doc__)
@click.option("--net", type=FOLDER, help="Folder with the net; default: the one that a worker would load")
@click.option("--images", type=FOLDER, help="Folder with pictures; default: scikit-image's")
@click.option("--count", default=1000, show_default=True, help="Images at each load; p99.9 wants thousands")
@click.option("--rounds", default=5, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Worker processes")
@click.option("--pause-ms", default=10.0, show_default=True, help="Before each image, when idle")
@click.option("--peers", "with_peers", is_flag=True, help="Compare with peers")
@click.option("--only", multiple=True, default=PEERS, show_default=True, help="Only peers whose name contains this")
@click.option("--peers-python", type=click.Path(path_type=Path), default=PEERS_PYTHON, help="Interpreter that has them")
@click.option("--agreeing-least", default=0.8, show_default=True, help="Share of images on which a peer must agree")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    net: Path | None, images: Path | None, count: int, rounds: int, workers: int, pause_ms: float, with_peers: bool,
    only: tuple[str, ...], peers_python: Path, agreeing_least: float, seed: int, as_json: bool,
) -> None:  # fmt: skip
    machine = describe_machine(None)
    found: dict[str, dict[str, list[tuple[float, list[float]]]]] = {}
    with staged(net, images, check_peers(peers_python) if with_peers else None) as stage:
        entries = [single(entry) for entry in lineup(stage, with_peers, peers_python, only)]
        try:
            for number in range(rounds):
                for entry in entries:
                    click.echo(f"round {number + 1} of {rounds}: {entry.name}", err=True)
                    turn = measure_turn(stage, entry, workers, count, pause_ms, agreeing_least, seed + number)
                    for load, rate, seconds in turn:
                        found.setdefault(entry.name, {}).setdefault(load, []).append((rate, seconds))
        except (SystemFailedError, WrongAnswersError) as error:
            raise click.ClickException(str(error)) from error
    rows = rows_of(found)
    if as_json:
        print_json(machine=machine, workers=workers, images=count, rounds=rounds, latencies=rows)
        return
    print_rows(
        rows, title=f"{machine['processor']}, {machine['cores']} cores: {workers} workers, {count} images a load"
    )


if __name__ == "__main__":
    main()
