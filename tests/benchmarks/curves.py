"""Images per second over the settings that matter, and plots of it: the defaults are chosen from these.

    python tests/benchmarks/curves.py [--net FOLDER] [--images FOLDER] [--curve batch …] [--json]

Batch size, decoding threads, worker processes, images per job. One setting is varied at a time, the others have their
defaults; the points of a curve take turns. Plots go to tests/benchmarks/figures/, one SVG per curve.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / name) for name in ("peers", "peers/systems")]

from machine import describe_machine  # noqa: E402
from near_end import OURS, Entry  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import Stage, Turn, staged  # noqa: E402
from svg import Curve, draw  # noqa: E402

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


def measure(stage: Stage, setting: Setting, count: int, rounds: int, workers: int) -> dict[int, list[Turn]]:
    """The turns of each step."""
    turns: dict[int, list[Turn]] = {step: [] for step in setting.steps}
    for number in range(rounds):
        for step in setting.steps:
            click.echo(f"round {number + 1} of {rounds}: {step} {setting.title}", err=True)
            with stage.running(setting.entry(step), step if setting.how == "processes" else workers) as system:
                turns[step].append(stage.turn(system, count, 1.0))
    return turns


@click.command(help=__doc__)
@click.option("--net", type=FOLDER, help="Folder with the net; default: the one that a worker would load")
@click.option("--images", type=FOLDER, help="Folder with pictures; default: scikit-image's")
@click.option("--curve", "chosen", multiple=True, type=click.Choice(list(SETTINGS)), help="Only this one; default: all")
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
    out.mkdir(parents=True, exist_ok=True)
    curves = {}
    with staged(net, images, None) as stage:
        for name in chosen or SETTINGS:
            setting = SETTINGS[name]
            turns = measure(stage, setting, count, rounds, workers)
            rates = {step: statistics.median(turn.images_per_second for turn in found) for step, found in turns.items()}
            cpu_ms = {step: statistics.median(turn.cpu_ms for turn in found) for step, found in turns.items()}
            points = [(str(step), rate) for step, rate in rates.items()]
            text = draw(Curve(f"{machine['processor']}, {machine['cores']} cores", setting.title, "images/s", points))
            (out / f"{name}.svg").write_text(text)
            curves[name] = [
                {setting.title: step, "images/s": round(rates[step], 1), "cpu ms per image": round(cpu_ms[step], 2)}
                for step in setting.steps
            ]
    if as_json:
        print_json(machine=machine, images=count, rounds=rounds, curves=curves)
        return
    for name, rows in curves.items():
        print_rows(rows, title=f"{name}: {out / name}.svg")


if __name__ == "__main__":
    main()
