"""Paths and `file:` references, inside the worker's image roots only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.roots import Roots
from imagequeue_worker.references.sources import ImageSources

_URL: Final = re.compile(r"[a-z]+:(?://(?P<host>[^/]*)(?=/))?(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_FILE: Final = re.compile(r"file:", re.IGNORECASE)
_CHUNK: Final = 1 << 16  # bytes; for files whose size is not known beforehand


class PathReader:
    """Reads files below the image roots; a `Fetch`."""

    def __init__(self, sources: ImageSources) -> None:
        self._roots = Roots(sources)

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The file's bytes.

        Raises ImageError: as `Roots.open` does, and `too_large`; `unsupported_reference` (a `file:` of another host).
        """
        with self._roots.open(_path_of(ref), ref) as file:
            size = os.fstat(file).st_size
            allowance.expect(size)
            return allowance.collect(_chunks(file, size))


def path_of_url(ref: str) -> bytes:
    """The path of a URL of a local file, percent-decoded; raises ImageError `unsupported_reference` for a host's."""
    match = _URL.fullmatch(ref)
    if match is None or (match["host"] or "").lower() not in ("", "localhost"):
        host = match["host"] if match else ""
        scheme = ref.partition(":")[0][:20]
        raise ImageError(
            ErrorCode.UNSUPPORTED_REFERENCE,
            f"{shown(ref)} is on the host {host[:80]!r}; write {scheme}:///path for the worker's",
        )
    return unquote_to_bytes(match["path"])


def _path_of(ref: str) -> bytes:
    """The path that a reference names; raises ImageError when it names none of this machine's."""
    try:
        return path_of_url(ref) if _FILE.match(ref) else os.fsencode(ref)
    except UnicodeEncodeError as error:
        raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is no file's name: {error.reason}") from error


def _chunks(file: int, size: int) -> Iterator[bytes]:
    """All bytes of a file, which may grow meanwhile: usually one piece, and none."""
    count = 0
    while chunk := os.read(file, max(size - count, _CHUNK) + 1):
        count += len(chunk)
        yield chunk
