"""Lines of a list, with the offset and number at which reading can go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Self

from imagequeue.errors import SourceError

LINE_BYTES_MAX = 4 << 20  # a reference may have 1 MiB, and JSON escapes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineTooLong(Exception):  # noqa: N818  names the state
    """Raised instead of a line that is too long; the next line is the next."""


class Lines:
    """The lines of an open file, each decoded as file names are; a pipe cannot be sought.

    `offset` and `number` are of the end of the last line given. An iterator that goes on after LineTooLong.
    """

    def __init__(self, file: BinaryIO, name: str, *, pipe: bool = False) -> None:
        self._file = file
        self.name = name
        self._size = None if pipe else os.fstat(file.fileno()).st_size
        self.offset = 0
        self.number = 0

    @property
    def cursor(self) -> str:
        """Where reading goes on."""
        return f"{self.offset}:{self.number}"

    @property
    def place(self) -> str:
        """The last line given, for people."""
        return self.place_of(self.number)

    def place_of(self, number: int) -> str:
        """A line by its number, for people."""
        return f"{self.name}:{number}"

    @property
    def share(self) -> float | None:
        """How much of the file is read; None for a pipe."""
        return self.offset / self._size if self._size else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            line = self._file.readline(LINE_BYTES_MAX)
            if not line:
                raise StopIteration
            self.offset += len(line)
            self.number += 1
            if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                self._skip_line()
                raise LineTooLong(f"the line is longer than {LINE_BYTES_MAX} bytes")
        except OSError as error:
            raise SourceError(f"{self.name} broke off after line {self.number}: {error}") from error
        if self.number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return os.fsdecode(line)

    def _skip_line(self) -> None:
        while part := self._file.readline(LINE_BYTES_MAX):
            self.offset += len(part)
            if part.endswith(b"\n"):
                return

    def skip_to(self, cursor: str) -> None:
        """Go on at a cursor further down; a pipe is read up to it. Raises SourceError when no line ends there."""
        offset, _, number = cursor.partition(":")
        before, self.offset, self.number = self.offset, int(offset), int(number)
        if self._size is None:
            self._read_away(self.offset - before)
        elif self._size < self.offset:
            raise self._changed()
        elif self.offset:
            self._file.seek(self.offset - 1)
            if self._file.read(1) != b"\n" and self.offset < self._size:
                raise self._changed()

    def _read_away(self, left: int) -> None:
        while left and (part := self._file.read(min(left, LINE_BYTES_MAX))):
            left -= len(part)
        if left:
            raise self._changed()

    def _changed(self) -> SourceError:
        return SourceError(
            f"{self.name} has been read up to line {self.number} (byte {self.offset}), and there no line of it ends "
            "any more: it is another file; give the run another name"
        )


def open_list(path: Path) -> BinaryIO:
    """Open a list; raise SourceError."""
    try:
        return path.open("rb")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
