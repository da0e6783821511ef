"""Parquet, by pyarrow (the extra `parquet`): written in groups of rows, so memory is bounded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, Final

from imagequeue.errors import ConfigurationError
from imagequeue.parts import batches
from imagequeue.reports.judging import Judged
from imagequeue.reports.rows import COLUMNS, row_of

ROWS_PER_GROUP: Final = 50_000


def write_parquet(results: Iterable[Judged], output: BinaryIO) -> None:
    """One row per result; raise ConfigurationError when pyarrow is not installed."""
    arrow, parquet = _pyarrow()
    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with parquet.ParquetWriter(output, schema, compression="zstd") as writer:
        for group in batches(map(row_of, results), ROWS_PER_GROUP):
            columns = [
                arrow.array(column, field.type) for column, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigurationError("pyarrow is not installed; pip install 'imagequeue[parquet]'") from error
    return pyarrow, parquet
