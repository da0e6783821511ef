"""Formats by name: what a file's suffix stands for, and what writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from imagequeue.reports.csv_file import write_csv
from imagequeue.reports.json_lines import write_json_lines
from imagequeue.reports.judging import Judged
from imagequeue.reports.parquet_file import write_parquet


class RowFormat(StrEnum):
    """One row per picture."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class ReportFormat(StrEnum):
    """All pictures together."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


SUFFIXES: Final = {
    ".jsonl": RowFormat.JSONL,
    ".ndjson": RowFormat.JSONL,
    ".csv": RowFormat.CSV,
    ".parquet": RowFormat.PARQUET,
    ".json": ReportFormat.JSON,
    ".html": ReportFormat.HTML,
    ".htm": ReportFormat.HTML,
}

ROW_WRITERS: Final[dict[RowFormat, Callable[[Iterable[Judged], BinaryIO], None]]] = {
    RowFormat.JSONL: write_json_lines,
    RowFormat.CSV: write_csv,
    RowFormat.PARQUET: write_parquet,
}


def format_of(output: Path | None) -> str | None:
    """The format that a file's name stands for, or None."""
    return SUFFIXES.get(output.suffix.lower()) if output is not None else None
