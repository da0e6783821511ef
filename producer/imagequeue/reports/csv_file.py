"""CSV: RFC 4180, UTF-8, with a header. Cells are the results' own text: a spreadsheet must not run them as formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import BinaryIO

from imagequeue.reports.judging import Judged
from imagequeue.reports.rows import COLUMNS, row_of


def write_csv(results: Iterable[Judged], output: BinaryIO) -> None:
    """A header, then one row per result."""
    text = io.TextIOWrapper(output, "utf-8", newline="", write_through=True)
    try:
        rows = csv.writer(text)
        rows.writerow(COLUMNS)
        rows.writerows(map(row_of, results))
    finally:
        text.detach()  # the caller closes its file
