"""The figures as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from race import Result
from rich.console import Console
from rich.table import Table


def print_machine(console: Console, machine: dict[str, Any]) -> None:
    """One paragraph: what the figures are from."""
    mhz = f"{machine['mhz']} MHz" if machine["mhz"] else "frequency unknown"
    console.print(
        f"{machine['processor']} (family/model {machine['family_model']}), {mhz}, {machine['cores']} cores, pinned to "
        f"core {machine['pinned_to_core']}, load {machine['load_average']}\n{' '.join(machine['isa'])}\n"
        f"{machine['system']}, Python {machine['python']}",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def print_results(console: Console, net: str, results: Sequence[Result]) -> None:
    """A table for each batch size."""
    for batch in dict.fromkeys(result.batch for result in results):
        at_batch = [result for result in results if result.batch == batch]
        console.print(_table(f"{net}, batch {batch}: ms per image, one thread", at_batch))
        for result in at_batch:
            if tried := result.form.get("tried_ms_per_image"):
                forms = "; ".join(f"{form} {value}" for form, value in tried.items())
                console.print(f"{result.contender.name} took the fastest of: {forms}", soft_wrap=True, highlight=False)


def _table(title: str, results: Sequence[Result]) -> Table:
    peers = [result for result in results if not result.contender.ours]
    table = Table(title=title, title_justify="left")
    table.add_column("contender")
    for column in ("median", "best", "cpu", *(f"÷ {peer.contender.name}, cpu" for peer in peers), "rounds", "calls"):
        table.add_column(column, justify="right")
    table.add_column("top-1 as ours", justify="right")
    table.add_column("form")
    for result in results:
        about = result.contender.about
        table.add_row(
            f"{about['name']} {about['version']}".strip(),
            *(f"{value:.2f}" for value in (result.median_ms, result.best_ms, result.cpu_ms)),
            *("{:.3f}, {:.3f}".format(*result.ratio(peer)) for peer in peers),
            str(len(result.turns)),
            str(sum(len(turn.wall_ms) for turn in result.turns.values())),
            f"{result.agreeing} of {result.pictures}" if not result.contender.ours else "every bit",
            result.form["form"],
        )
    return table
