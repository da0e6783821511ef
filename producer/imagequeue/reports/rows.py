"""A result as one flat row: the columns that CSV and Parquet share. All classes are in JSON Lines."""

from __future__ import annotations

from typing import Final

from imagequeue.reports.judging import Judged

Cell = str | int | float | None

COLUMNS: Final[dict[str, type]] = {
    "id": str,
    "ref": str,
    "status": str,
    "index": int,  # of the best class, as the next three
    "wnid": str,
    "label": str,
    "probability": float,
    "code": str,  # of an error
    "message": str,
    "truth": str,  # the known class, with labels
    "rank": int,  # its place among the result's classes; empty when it is not there
    "model": str,
    "model_sha256": str,
    "worker": str,
    "attempt": int,
    "submitted_at": float,  # Unix times, as the next
    "finished_at": float,
    "queue_seconds": float,
    "fetch_seconds": float,
    "decode_seconds": float,
    "infer_seconds": float,
    "job": str,
    "entry": str,
}


def row_of(one: Judged) -> tuple[Cell, ...]:
    """The cells of one result, in the order of COLUMNS."""
    result, seconds = one.result, one.result.seconds
    best = result.classes[0] if result.classes else None
    return (
        result.id,
        result.ref,
        str(result.status),
        *((best.index, best.wnid, best.label, best.probability) if best else (None,) * 4),
        *((result.error.code, result.error.message) if result.error else (None,) * 2),
        None if one.truth is None else str(one.truth),
        one.rank,
        *((result.model.name, result.model.sha256) if result.model else (None,) * 2),
        result.worker,
        result.attempt,
        result.submitted_at,
        result.finished_at,
        *(seconds.queue, seconds.fetch, seconds.decode, seconds.infer),
        result.job,
        result.entry,
    )
