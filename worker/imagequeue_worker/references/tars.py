"""`tar:///file#member` references: files inside an uncompressed tar below the image roots.

An archive is read through once, as far as the members that are asked for lie, and its table of members is kept while
the file stays the same. Of several members of one name the first is taken. Compressed archives have no way to a member
but through all before it: they are refused.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.members import chunks, split_member
from imagequeue_worker.references.roots import Roots
from imagequeue_worker.references.sources import ImageSources

_ARCHIVES_MAX: Final = 8  # whose tables are kept
_MEMBERS_MAX: Final = 2_000_000
_HEADER_BYTES_MAX: Final = 1 << 20  # of one member: names and extended headers

Identity: TypeAlias = tuple[int, int, int, int]
"""Device, inode, size and time of change: an archive that is another one has another."""


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    is_file: bool


class TarReader:
    """Reads members of tar files; a `Fetch`."""

    def __init__(self, sources: ImageSources) -> None:
        self._roots = Roots(sources)
        self._tables: OrderedDict[Identity, _Table] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The member's bytes.

        Raises ImageError: as `Roots.open` does; `unsupported_reference` (no member named), `not_found` (no such
        member), `unsupported_format` (no tar, a compressed one; a member that is no file), `corrupt`, `too_large`,
        `fetch_timeout` (an archive too long to be searched in time: the next try goes on where this one stopped).
        """
        path, name = split_member(ref, "tar")
        with self._roots.open(path, ref) as file:
            try:
                member = self._table(file).find(file, os.fsdecode(name), allowance)
            except (tarfile.TarError, ValueError, OverflowError) as error:
                raise _no_tar(file, ref, error) from error
            if member is None:
                raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)}: the archive has no such member")
            if not member.is_file:
                raise ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{shown(ref)} is a folder or link in its archive")
            allowance.expect(member.size)
            data = allowance.collect(chunks(file, member.offset, member.size))
        if len(data) != member.size:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)}: the archive ends within the member")
        return data

    def _table(self, file: int) -> _Table:
        """The table of an open archive, new or as far as it has been read."""
        status = os.fstat(file)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            table = self._tables.setdefault(identity, _Table())
            self._tables.move_to_end(identity)
            if len(self._tables) > _ARCHIVES_MAX:
                self._tables.popitem(last=False)
            return table


class _Table:
    """The members of one archive, as far as it has been read."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._offset = 0
        self._complete = False
        self._lock = threading.Lock()

    def find(self, file: int, name: str, allowance: Allowance) -> _Member | None:
        """The member of that name; None when there is none. Raises tarfile.TarError, ImageError."""
        if name in self._members:  # known already: no waiting for whoever reads on
            return self._members[name]
        if not self._lock.acquire(timeout=allowance.seconds_left()):
            raise allowance.too_late()
        try:
            while name not in self._members and not self._complete:
                allowance.seconds_left()
                self._read_on(file)
            return self._members.get(name)
        finally:
            self._lock.release()

    def _read_on(self, file: int) -> None:
        """Read the next member's header."""
        if len(self._members) >= _MEMBERS_MAX:
            raise ImageError(
                ErrorCode.TOO_LARGE, f"an archive has more than {_MEMBERS_MAX} members; split it into several"
            )
        if self._offset and not os.pread(file, 1, self._offset):  # an archive without an end of its own
            self._complete = True
            return
        with tarfile.TarFile(fileobj=_Headers(file, self._offset), mode="r", errorlevel=2) as archive:
            member = archive.next()
            if member is None:
                self._complete = True
                return
            if archive.offset <= 0:
                raise tarfile.HeaderError("a member of negative size")
            is_file = member.isreg() and not member.issparse()
            found = _Member(self._offset + member.offset_data, member.size, is_file)
            self._members.setdefault(member.name.removeprefix("./"), found)
            self._offset += archive.offset


class _Headers(io.RawIOBase):
    """An archive from one of its headers on, of which no more than headers are read: hostile sizes reserve nothing."""

    def __init__(self, file: int, start: int) -> None:
        self._file = file
        self._start = start
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES_MAX:
            raise tarfile.HeaderError(f"a header of {size} bytes; at most {_HEADER_BYTES_MAX} are read")
        data = os.pread(self._file, size, self._start + self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < 0:
            raise tarfile.StreamError("an archive is read forwards")
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position


def _no_tar(file: int, ref: str, error: Exception) -> ImageError:
    if os.pread(file, 6, 0).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return ImageError(
            ErrorCode.UNSUPPORTED_FORMAT, f"{shown(ref)} is in a compressed archive; unpack it to a plain tar"
        )
    return ImageError(ErrorCode.CORRUPT, f"{shown(ref)}: the archive cannot be read: {error}")
