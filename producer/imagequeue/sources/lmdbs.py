"""Records of an LMDB, as `lmdb:///folder#key` references, in the order of their keys.

A cursor is `records before it:percent-encoded key`. LMDB's library trusts the file that it maps: list only your own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from imagequeue.errors import SourceError
from imagequeue.sources.items import Found, listed
from imagequeue.sources.tars import member_reference


@dataclass(frozen=True, slots=True)
class Lmdb:
    """All records of a database: a folder, or its file."""

    path: Path

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError, which names the last key that was read."""
        lmdb = _lmdb()
        count, _, key = after.partition(":")
        number, last = int(count or 0), unquote_to_bytes(key)
        try:
            with (
                lmdb.open(
                    str(self.path), subdir=self.path.is_dir(), readonly=True, lock=False, create=False
                ) as database,
                database.begin() as transaction,
            ):
                entries = max(1, transaction.stat()["entries"])
                for found in _keys(transaction.cursor(), last):
                    number, last = number + 1, found
                    cursor = f"{number}:{quote_from_bytes(found)}"
                    place = f"{self.path}#{found.decode('utf-8', 'backslashreplace')}"
                    yield listed(
                        member_reference("lmdb", self.path, found), place, cursor, share=min(1.0, number / entries)
                    )
        except lmdb.Error as error:
            behind = f" after the key {last!r}" if last else ""
            raise SourceError(f"{self.path} cannot be read{behind}: {error}") from error


def _keys(cursor: Any, behind: bytes) -> Iterator[bytes]:  # noqa: ANN401  the package has no annotations
    """All keys after one."""
    there = cursor.set_range(behind) if behind else cursor.first()
    if there and behind and bytes(cursor.key()) == behind:
        there = cursor.next()
    if there:
        yield from (bytes(key) for key in cursor.iternext(keys=True, values=False))


def _lmdb() -> Any:  # noqa: ANN401  the package has no annotations
    try:
        import lmdb
    except ImportError as error:
        raise SourceError("lmdb is not installed; pip install 'imagequeue[lmdb]'") from error
    return lmdb
