"""`python -m chaos [STORM …] --full --seed N --out ledger.json`: run storms, print a table, write the ledger."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from chaos.ledger import Ledger, Options, Scale, write_ledgers
from chaos.storms import STORMS, storm
from chaos.table import rich_table
from imagequeue_worker.blas import limit_blas_threads
from imagequeue_worker.logs import configure_logging


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(list(STORMS)), metavar="[STORM]...")
@click.option("--full/--slice", "full", default=False, show_default="--slice", help="All of it, or what the tests run")
@click.option("--seed", default=1, show_default=True, help="For the work and the choices; not for the kernel's timing")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write the ledger there; what it has of other storms stays"
)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs and data there; a temporary one otherwise")
def main(names: tuple[str, ...], full: bool, seed: int, out: Path | None, folder: Path | None) -> None:
    """Run storms: real Redis, real processes, real signals. Exit code 1 when anything was lost, wrong or doubled."""
    limit_blas_threads()
    configure_logging("warning", json=False)
    console, ledgers = Console(), []
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        options = Options(folder or Path(temporary), Scale.FULL if full else Scale.SLICE, seed)
        for name in names or tuple(STORMS):
            console.print(f"{name} …", end=" ")
            try:
                ledger: Ledger = storm(name)(options)
            except Exception as error:
                console.print(f"[red]did not come to its end: {error}")
                continue
            ledgers.append(ledger)
            console.print("sound" if ledger.sound else f"[red]NOT SOUND[/red]\n{ledger}", f"({ledger.seconds:.0f} s)")
            if out:
                write_ledgers(out, ledgers)
    console.print(rich_table(ledgers))
    sys.exit(0 if len(ledgers) == len(names or STORMS) and all(ledger.sound for ledger in ledgers) else 1)


if __name__ == "__main__":
    main()
