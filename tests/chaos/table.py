"""Ledgers as a table, for people and for the README: `python -m chaos.table ledger.json`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from chaos.ledger import Ledger, read_ledgers

HEADINGS = (
    "storm",
    "scale",
    "faults",
    "accepted",
    "lost",
    "wrong",
    "doubled",
    "seconds until back: p50, p99, max",
    "took",
)


def row(ledger: Ledger) -> tuple[str, ...]:
    """One ledger in words, in the order of HEADINGS."""
    found, spread = ledger.findings, ledger.redelivery_seconds or ledger.recovery_seconds
    faults = ", ".join(
        f"{count:,} {kind.replace('_', ' ')}" for kind, count in ledger.faults.items() if " " not in kind
    )
    return (
        ledger.storm,
        ledger.scale.value,
        faults or ", ".join(f"{count:,} {kind}" for kind, count in ledger.faults.items()),
        f"{found.accepted:,}",
        str(found.lost),
        str(found.wrong),
        str(found.doubled),
        f"{spread.p50:.1f}, {spread.p99:.1f}, {spread.largest:.1f}" if spread else "",
        f"{ledger.seconds:.0f} s",
    )


def rich_table(ledgers: Sequence[Ledger]) -> Table:
    """All of them, what is not sound in red."""
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for ledger in ledgers:
        table.add_row(*row(ledger), style=None if ledger.sound else "red")
    return table


def markdown_table(ledgers: Sequence[Ledger]) -> str:
    """All of them as the README has them."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *map(row, ledgers)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(markdown_table([ledger for name in sys.argv[1:] for ledger in read_ledgers(Path(name))]))
