"""Files below the image roots, for every kind of reference that names one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import shown
from imagequeue_worker.references.beneath import NotAFileError, OutsideRootsError, open_beneath
from imagequeue_worker.references.sources import ImageSources

_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EMLINK, errno.ENXIO})


class Roots:
    """The folders below which files may be read."""

    def __init__(self, sources: ImageSources) -> None:
        self._roots = tuple(os.fsencode(root.absolute()) for root in sources.image_roots)

    @contextmanager
    def open(self, path: bytes, ref: str) -> Iterator[int]:
        """The descriptor of a regular file, open for as long as the context is.

        A relative path is looked for below each root, in their order. Raises ImageError, also for what goes wrong with
        the file inside the context: `forbidden` (no image root, outside of all of them, no permission, a device, FIFO
        or socket), `not_found`, `unsupported_format` (a folder), `fetch_failed` (an I/O error).
        """
        try:
            file = self._open(path, ref)
            try:
                yield file
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

    def _open(self, path: bytes, ref: str) -> int:
        """The file's descriptor. `os.path.join` keeps an absolute path as it is."""
        if not self._roots:
            raise ImageError(
                ErrorCode.FORBIDDEN,
                f"{shown(ref)}: this worker reads no paths; name a folder that it may read with --image-root",
            )
        if b"\x00" in path:
            raise ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is no file's name: it holds a NUL byte")
        *others, last = self._roots[:1] if path.startswith(b"/") else self._roots
        for root in others:
            try:
                return open_beneath(os.path.join(root, path), self._roots)  # noqa: PTH118  bytes
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
        return open_beneath(os.path.join(last, path), self._roots)  # noqa: PTH118  bytes


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
