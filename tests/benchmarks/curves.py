"""Images per second over the settings that matter, milliseconds over the load, and plots of both.

    python tests/benchmarks/curves.py [--net FOLDER] [--images FOLDER] [--curve batch …] [--json]

Batch size, decoding threads, worker processes, images per job: the defaults are chosen from these. One setting is
varied at a time, the others have their defaults; the points of a curve take turns. `load` is from when an image was due
until its result was seen, at Poisson arrivals of shares of the rate that the same processes have just reached with a
job per image (see latency.py). Plots go to tests/benchmarks/figures/, one SVG per curve.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / name) for name in ("peers", "peers/systems")]

from latency import percentile, single  # noqa: E402
from machine import describe_machine  # noqa: E402
from near_end import OURS, Entry  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import Stage, Turn, staged  # noqa: E402
from svg import Plot, draw  # noqa: E402

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@dataclass(frozen=True, slots=True)
class Setting:
    """What is varied: a flag of the worker, or one of the words `processes` and `chunk`."""

    title: str
    how: str
    steps: tuple[int, ...]

    def entry(self, step: int) -> Entry:
        """Our system at this step."""
        if self.how == "chunk":
            return replace(OURS, setup={"chunk": step})
        return OURS if self.how == "processes" else replace(OURS, setup={"flags": [self.how, str(step)]})


SETTINGS = {
    "batch": Setting("images taken at once (--batch-images)", "--batch-images", (1, 2, 4, 8, 16, 32, 64)),
    "threads": Setting("threads that decode, per process (--decode-threads)", "--decode-threads", (1, 2, 3, 4)),
    "processes": Setting("worker processes (--processes)", "processes", (1, 2, 3, 4)),
    "chunk": Setting("images per job (chunk)", "chunk", (1, 4, 16, 32, 64)),
}
LOADS = (0.1, 0.3, 0.5, 0.7, 0.9)
PERCENTILES = (50, 90, 99)
CURVES = (*SETTINGS, "load")


@dataclass(frozen=True, slots=True)
class Found:
    """A curve: its rows for the table, and its plot."""

    rows: Sequence[dict[str, Any]]
    plot: Plot


def measure(stage: Stage, setting: Setting, count: int, rounds: int, workers: int) -> dict[int, list[Turn]]:
    """The turns of each step."""
    turns: dict[int, list[Turn]] = {step: [] for step in setting.steps}
    for number in range(rounds):
        for step in setting.steps:
            click.echo(f"round {number + 1} of {rounds}: {step} {setting.title}", err=True)
            with stage.running(setting.entry(step), step if setting.how == "processes" else workers) as system:
                turns[step].append(stage.turn(system, count, 1.0))
    return turns


def setting_curve(stage: Stage, title: str, setting: Setting, count: int, rounds: int, workers: int) -> Found:
    """Images per second over a setting."""
    turns = measure(stage, setting, count, rounds, workers)
    rates = [statistics.median(turn.images_per_second for turn in found) for found in turns.values()]
    cpu_ms = [statistics.median(turn.cpu_ms for turn in found) for found in turns.values()]
    rows = [
        {setting.title: step, "images/s": round(rate, 1), "cpu ms per image": round(ms, 2)}
        for step, rate, ms in zip(setting.steps, rates, cpu_ms, strict=True)
    ]
    return Found(rows, Plot(title, setting.title, "images/s", [str(step) for step in turns], {"images/s": rates}))


def load_curve(stage: Stage, title: str, count: int, rounds: int, workers: int) -> Found:
    """Milliseconds over the load: medians over the rounds of each round's percentiles."""
    seconds: dict[float, list[list[float]]] = {load: [] for load in LOADS}
    refs = stage.refs(count)
    for number in range(rounds):
        click.echo(f"round {number + 1} of {rounds}: loads", err=True)
        with stage.running(single(OURS), workers) as system:
            capacity = stage.turn(system, count, 1.0).images_per_second
            for load in LOADS:
                seconds[load].append(system.open_loop(refs, load * capacity, number))
    lines = {
        f"p{percent}": [
            1000 * statistics.median(percentile(found, percent) for found in seconds[load]) for load in LOADS
        ]
        for percent in PERCENTILES
    }
    rows = [
        {"load": f"{load:.0%}", **{f"{name} ms": round(values[number], 1) for name, values in lines.items()}}
        for number, load in enumerate(LOADS)
    ]
    return Found(rows, Plot(title, "share of the highest rate", "ms", [f"{load:.0%}" for load in LOADS], lines))


@click.command(help=__doc__)
@click.option("--net", type=FOLDER, help="Folder with the net; default: the one that a worker would load")
@click.option("--images", type=FOLDER, help="Folder with pictures; default: scikit-image's")
@click.option("--curve", "chosen", multiple=True, type=click.Choice(CURVES), help="Only this one; default: all")
@click.option("--count", default=1000, show_default=True, help="Images in a turn")
@click.option("--rounds", default=3, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Worker processes, where they are not varied")
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "figures", help="Folder for the plots")
@click.option("--json", "as_json", is_flag=True)
def main(
    net: Path | None, images: Path | None, chosen: tuple[str, ...], count: int, rounds: int, workers: int, out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    machine = describe_machine(None)
    title = f"{machine['processor']}, {machine['cores']} cores"
    out.mkdir(parents=True, exist_ok=True)
    curves = {}
    with staged(net, images, None) as stage:
        for name in chosen or CURVES:
            if name == "load":
                found = load_curve(stage, title, count, rounds, workers)
            else:
                found = setting_curve(stage, title, SETTINGS[name], count, rounds, workers)
            (out / f"{name}.svg").write_text(draw(found.plot))
            curves[name] = found.rows
    if as_json:
        print_json(machine=machine, images=count, rounds=rounds, curves=curves)
        return
    for name, rows in curves.items():
        print_rows(rows, title=f"{name}: {out / name}.svg")


if __name__ == "__main__":
    main()
