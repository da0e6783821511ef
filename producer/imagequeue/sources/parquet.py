"""Columns of a Parquet file, read in batches. A cursor is the number of rows before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagequeue.errors import SourceError
from imagequeue.sources.columns import Columns, Spot, record
from imagequeue.sources.items import Found

ROWS_PER_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Parquet:
    """The rows of a file: a column of references, and those of ids and labels if they are there."""

    path: Path
    columns: Columns
    base: Path | None = None

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError, which names the last row that could be read."""
        arrow, parquet = _pyarrow()
        row = int(after or 0)
        base = self.base or self.path.parent
        try:
            with parquet.ParquetFile(self.path) as file:
                named = self.columns.within(file.schema_arrow.names, str(self.path))
                rows = max(1, file.metadata.num_rows)
                groups, skipped = _groups_after(file.metadata, row)
                row -= skipped
                batches = file.iter_batches(ROWS_PER_BATCH, row_groups=groups, columns=named.names())
                for batch in batches:
                    ref, id_, label = (
                        batch.column(name).to_pylist() if name else [None] * batch.num_rows
                        for name in (named.ref, named.id, named.label)
                    )
                    for index in range(min(skipped, batch.num_rows), batch.num_rows):
                        spot = Spot(
                            f"{self.path} row {row + index + 1}", str(row + index + 1), (row + index + 1) / rows
                        )
                        yield record(ref[index], id_[index], label[index], base, spot)
                    row += batch.num_rows
                    skipped = max(0, skipped - batch.num_rows)
        except (arrow.ArrowException, OSError) as error:
            raise SourceError(f"{self.path} broke off after row {row}: {error}") from error


def _groups_after(metadata: Any, row: int) -> tuple[list[int], int]:  # noqa: ANN401  pyarrow's, which has no annotations
    """The row groups that hold the rows from `row` on, and how many rows of the first of them lie before it."""
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if row < count:
            return list(range(group, metadata.num_row_groups)), row
        row -= count
    return [], row


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError("pyarrow is not installed; pip install 'imagequeue[parquet]'") from error
    return pa, pq
