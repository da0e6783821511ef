"""Images per second of whole systems, from a reference on the client's side to its result there: ours and peers.

    python tests/benchmarks/system.py [--net FOLDER] [--images FOLDER] [--peers] [--only mosec …]

Everything on this machine's cores: client, Redis, and two worker processes of one thread each. Round robin: in each
round every system is started, warmed, given the same images, and stopped. The peers decode with OpenCV and run the
same net in ONNX Runtime or OpenVINO, in the form that is fastest here; each has the settings that its documentation
recommends for throughput. The best class of every image is compared: ours must all be right, of a peer's most.
Not among them: RQ with real Caffe2, the model card's stack, which cannot be installed any more.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import click

sys.path[:0] = [str(Path(__file__).parent / name) for name in ("peers", "peers/systems")]

from machine import describe_machine  # noqa: E402
from near_end import Entry, SystemFailedError  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import PEERS_PYTHON, Stage, Turn, WrongAnswersError, check_peers, lineup, staged  # noqa: E402

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


def measure(stage: Stage, entries: list[Entry], count: int, rounds: int, workers: int, least: float) -> dict[str, Any]:
    """The turns of each system, by name."""
    turns: dict[str, list[Turn]] = {entry.name: [] for entry in entries}
    for number in range(rounds):
        for entry in entries:
            click.echo(f"round {number + 1} of {rounds}: {entry.name}", err=True)
            with stage.running(entry, workers) as system:
                turns[entry.name].append(stage.turn(system, count, least))
    return turns


def rows_of(entries: list[Entry], turns: dict[str, list[Turn]], count: int) -> list[dict[str, Any]]:
    """Medians; ratios are medians of the rounds' own ratios."""
    ours = turns[entries[0].name]
    return [
        {
            "system": entry.name,
            "runtime": entry.setup.get("runtime", "its own"),
            "images/s": round(statistics.median(turn.images_per_second for turn in turns[entry.name]), 1),
            "ours over it": round(
                statistics.median(
                    mine.images_per_second / turn.images_per_second
                    for mine, turn in zip(ours, turns[entry.name], strict=True)
                ),
                2,
            ),
            "cpu ms per image": round(statistics.median(turn.cpu_ms for turn in turns[entry.name]), 2),
            "best class is ours": f"{min(turn.agreeing for turn in turns[entry.name])} of {count}",
        }
        for entry in entries
    ]


@click.command(help=__doc__)
@click.option("--net", type=FOLDER, help="Folder with the net; default: the one that a worker would load")
@click.option("--images", type=FOLDER, help="Folder with pictures; default: scikit-image's")
@click.option("--count", default=2000, show_default=True, help="Images in a turn, by repeating the pictures")
@click.option("--rounds", default=5, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Worker processes")
@click.option("--peers", "with_peers", is_flag=True, help="Compare with the peers")
@click.option("--only", multiple=True, help="Only peers whose name contains this")
@click.option("--peers-python", type=click.Path(path_type=Path), default=PEERS_PYTHON, help="Interpreter that has them")
@click.option("--agreeing-least", default=0.8, show_default=True, help="Share of images on which a peer must agree")
@click.option("--json", "as_json", is_flag=True)
def main(
    net: Path | None, images: Path | None, count: int, rounds: int, workers: int, with_peers: bool,
    only: tuple[str, ...], peers_python: Path, agreeing_least: float, as_json: bool,
) -> None:  # fmt: skip
    machine = describe_machine(None)
    with staged(net, images, check_peers(peers_python) if with_peers else None) as stage:
        entries = lineup(stage, with_peers, peers_python, only)
        try:
            turns = measure(stage, entries, count, rounds, workers, agreeing_least)
        except (SystemFailedError, WrongAnswersError) as error:
            raise click.ClickException(str(error)) from error
        rows = rows_of(entries, turns, count)
    if as_json:
        print_json(machine=machine, workers=workers, images=count, rounds=rounds, systems=rows)
        return
    print_rows(rows, title=f"{machine['processor']}, {machine['cores']} cores: {workers} workers, {count} images")


if __name__ == "__main__":
    main()
