"""Pictures in an uncompressed tar, as `tar:///file#member` references, in the order of the archive.

Only headers are read, one at a time, and nothing is extracted. A cursor is the offset of the next header.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, quote_from_bytes

from imagequeue.errors import SourceError
from imagequeue.sources.arguments import IMAGE_SUFFIXES
from imagequeue.sources.items import Found, Unreadable, listed

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, slots=True)
class Tar:
    """The pictures of an archive, by suffix."""

    path: Path

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError, which names the last member that could be read."""
        try:
            with self.path.open("rb") as file:
                yield from self._members(file, int(after or 0))
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror}") from error

    def _members(self, file: BinaryIO, offset: int) -> Iterator[Found]:
        size = os.fstat(file.fileno()).st_size
        if file.read(6).startswith(_COMPRESSED):
            raise SourceError(f"{self.path} is compressed, and workers read plain tars only; unpack it to one")
        if offset > size:
            raise SourceError(f"{self.path} has been read up to byte {offset} and ends before; it is another file")
        last = f"byte {offset}"
        while offset < size:
            try:
                member, following = _next(file, offset)
            except (tarfile.TarError, ValueError, OverflowError) as error:
                raise SourceError(f"{self.path} broke off after {last}: {error}") from error
            if member is None:
                return
            name = member.name.removeprefix("./")
            place = last = f"{self.path}#{name}"
            offset = following
            if member.offset_data + member.size > size:
                yield Unreadable(place, "the archive ends within it", str(offset))
            elif member.isreg() and not member.issparse() and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield listed(member_reference("tar", self.path, name), place, str(offset), share=offset / size)


def member_reference(scheme: str, path: Path, member: str | bytes) -> str:
    """`scheme:///path#member`, percent-encoded: what workers decode."""
    absolute = os.path.abspath(path)  # noqa: PTH100  links stay as named: the worker judges them
    return f"{scheme}://{quote(os.fsencode(absolute))}#{quote_from_bytes(os.fsencode(member))}"


def _next(file: BinaryIO, offset: int) -> tuple[tarfile.TarInfo | None, int]:
    """The member whose header lies at an offset, and the offset of the one behind it. None: the archive ends here."""
    view = _From(file, offset)
    with tarfile.TarFile(fileobj=cast("BinaryIO", view), mode="r", errorlevel=2) as archive:
        member = archive.next()
        if member is None:
            return None, offset
        if archive.offset <= 0:
            raise tarfile.HeaderError("a member of negative size")
        member.offset_data += offset
        return member, offset + archive.offset


class _From:
    """A file from an offset on: a header that cannot be read is an error, also behind the first."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._start = start
        file.seek(start)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(self._start + offset) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start
