"""`lmdb:///folder#key` references: records of Caffe's image databases, below the image roots.

The key is percent-decoded, as the path is: Caffe's keys (`00000012_n01440764/n01440764_18.JPEG`) need no escape.
"""

from __future__ import annotations

import os

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.datum import read_datum
from imagequeue_worker.references.lmdb_file import LmdbError, find_record
from imagequeue_worker.references.members import chunks, split_member
from imagequeue_worker.references.roots import Roots
from imagequeue_worker.references.sources import ImageSources


class LmdbReader:
    """Reads the `Datum` records of LMDB folders (or files); a `Fetch`."""

    def __init__(self, sources: ImageSources) -> None:
        self._roots = Roots(sources)

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The record's image file; of a raw record, its pixels as a file.

        Raises ImageError: as `Roots.open` does; `unsupported_reference` (no key), `not_found` (no such key), `corrupt`
        (a damaged database, or a record that is no Datum), `too_large`.
        """
        path, key = split_member(ref, "lmdb")
        try:
            with self._roots.open(_data_file(path), ref) as file:
                place = find_record(file, key)
                if place is None:
                    raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)}: the database has no record of that key")
                allowance.expect(place.size)
                record = allowance.collect(chunks(file, place.offset, place.size))
        except LmdbError as error:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)}: the database cannot be read: {error}") from error
        if len(record) != place.size:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)}: the database ends within the record")
        return read_datum(record).file()


def _data_file(path: bytes) -> bytes:
    """LMDB's file of a folder; a file may be named itself."""
    return path if path.endswith(b".mdb") else os.path.join(path, b"data.mdb")  # noqa: PTH118  bytes
