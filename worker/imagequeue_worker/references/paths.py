"""Paths and `file:` references, inside the worker's image roots only."""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import Final
from urllib.parse import unquote_to_bytes

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.beneath import NotAFileError, OutsideRootsError, open_beneath
from imagequeue_worker.references.sources import ImageSources, shown

_FILE_URL: Final = re.compile(r"file:(?://(?P<host>[^/]*)(?=/))?(?P<path>.*)", re.IGNORECASE | re.DOTALL)
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EMLINK, errno.ENXIO})
_CHUNK: Final = 1 << 16  # bytes; for files whose size is not known beforehand


class PathReader:
    """Reads files below the image roots; a `Fetch`."""

    def __init__(self, sources: ImageSources) -> None:
        self._roots = tuple(os.fsencode(root.absolute()) for root in sources.image_roots)
        self._bytes_max = sources.image_bytes_max

    def __call__(self, ref: str) -> bytes:
        """The file's bytes. A relative path is looked for below each root, in their order.

        Raises ImageError: `forbidden` (no image root, outside of all of them, no permission, a device, FIFO
        or socket), `not_found`, `unsupported_format` (a folder), `too_large`, `fetch_failed` (an I/O
        error), `unsupported_reference` (a `file:` of another host).
        """
        path = _path_of(ref)
        if not self._roots:
            raise ImageError(
                ErrorCode.FORBIDDEN,
                f"{shown(ref)}: this worker reads no paths; name a folder that it may read with --image-root",
            )
        try:
            file = self._open(path)
            try:
                return self._read(file, ref)
            finally:
                os.close(file)
        except OutsideRootsError as error:
            raise ImageError(
                ErrorCode.FORBIDDEN,
                f"{shown(ref)} is outside this worker's image roots; name its folder with --image-root",
            ) from error
        except NotAFileError as error:
            raise _no_file(ref, error.mode) from error
        except OSError as error:
            raise _refusal(ref, error) from error

    def _open(self, path: bytes) -> int:
        """The file's descriptor. `os.path.join` keeps an absolute path as it is."""
        *others, last = self._roots[:1] if path.startswith(b"/") else self._roots
        for root in others:
            try:
                return open_beneath(os.path.join(root, path), self._roots)  # noqa: PTH118  bytes
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
        return open_beneath(os.path.join(last, path), self._roots)  # noqa: PTH118  bytes

    def _read(self, file: int, ref: str) -> bytes:
        """All bytes of a file, which may grow meanwhile: the limit holds for what is read, too."""
        size = os.fstat(file).st_size
        chunks: list[bytes] = []
        count = 0
        while max(size, count) <= self._bytes_max:
            chunk = os.read(file, max(size - count, _CHUNK) + 1)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            count += len(chunk)
        raise ImageError(
            ErrorCode.TOO_LARGE,
            f"{shown(ref)} has {max(size, count)} bytes; at most {self._bytes_max} are read; raise --max-image-bytes",
        )


def _path_of(ref: str) -> bytes:
    """The path that a reference names; raises ImageError when it names none of this machine's."""
    match = _FILE_URL.fullmatch(ref)
    if match is not None and (match["host"] or "").lower() not in ("", "localhost"):
        raise ImageError(
            ErrorCode.UNSUPPORTED_REFERENCE,
            f"{shown(ref)} is on the host {match['host'][:80]!r}; write file:///path for the worker's",
        )
    try:
        path = unquote_to_bytes(match["path"]) if match is not None else os.fsencode(ref)
    except UnicodeEncodeError as error:
        raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is no file's name: {error.reason}") from error
    if b"\x00" in path:
        raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is no file's name: it holds a NUL byte")
    return path


def _no_file(ref: str, mode: int) -> ImageError:
    if stat.S_ISDIR(mode):
        return ImageError(ErrorCode.UNSUPPORTED_FORMAT, f"{shown(ref)} is a folder; name the image files in it")
    kind = "FIFO" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
    return ImageError(ErrorCode.FORBIDDEN, f"{shown(ref)} is a {kind}; regular files only are read")


def _refusal(ref: str, error: OSError) -> ImageError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _MISSING:
        return ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is not there: {reason}")
    if error.errno in _DENIED:
        return ImageError(ErrorCode.FORBIDDEN, f"{shown(ref)} may not be read by this worker: {reason}")
    return ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} could not be read: {reason}")
