"""Rows of figures, as a Markdown table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


def print_rows(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """A Markdown table, the first row's keys its columns."""
    if title:
        click.echo(f"\n{title}\n")
    columns = list(rows[0])
    table = [columns, *([_shown(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(columns))]
    for number, line in enumerate(table):
        click.echo("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")
        if number == 0:
            click.echo("| " + " | ".join("-" * width for width in widths) + " |")


def print_json(**values: Any) -> None:
    """One object."""
    click.echo(json.dumps(values, indent=2))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
