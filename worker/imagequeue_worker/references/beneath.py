"""Open a file below a root so that nothing renamed, linked or swapped meanwhile can lead outside."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

# O_PATH needs no permission to list a folder; macOS has no such flag.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW
_LINK_IN_THE_WAY: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})


class OutsideRootsError(Exception):
    """Raised when a path leads to no place below a root."""


class NotAFileError(Exception):
    """Raised when a path leads to something that is no regular file; carries its mode."""

    def __init__(self, mode: int) -> None:
        super().__init__(mode)
        self.mode = mode


def open_beneath(path: bytes, roots: Sequence[bytes]) -> int:
    """Open the regular file at the absolute `path`, below one of the absolute `roots`; return its descriptor.

    Two walks, neither of which can leave a root:

    1. As named. Every folder below the root is opened relative to the one above it, refusing links:
       whatever is swapped meanwhile, the walk stays below. Usual paths end here.
    2. Where a link or `..` is in the way, or the root was named by another path, the path is resolved, has
       to lie below a root, and is walked again from that root. A link swapped in after resolving is refused
       by this walk.

    The roots themselves may be links: naming them was their operator's choice.

    Raises OutsideRootsError, whether or not anything exists there; NotAFileError; OSError (ELOOP for a link
    that appeared between the walks, or that leads to itself).
    """
    root = _root_of(path, roots)
    if root is not None and b".." not in path.split(b"/"):
        try:
            return _walk(root, path)
        except OSError as error:
            if error.errno not in _LINK_IN_THE_WAY:
                raise
    path = os.path.realpath(path)
    root = _root_of(path, [os.path.realpath(root) for root in roots])
    if root is None:
        raise OutsideRootsError
    return _walk(root, path)


def _root_of(path: bytes, roots: Sequence[bytes]) -> bytes | None:
    """The first root that `path` lies below, or is, by its name."""
    return next((root for root in roots if path == root or path.startswith(root.rstrip(b"/") + b"/")), None)


def _walk(root: bytes, path: bytes) -> int:
    """Open `path` from `root` downwards, one name at a time, refusing links."""
    *folders, name = [part for part in path[len(root) :].split(b"/") if part not in (b"", b".")] or [b"."]
    folder = os.open(root, _FOLDER)
    try:
        for part in folders:
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        return _open_regular(name, folder)
    finally:
        os.close(folder)


def _open_regular(name: bytes, folder: int) -> int:
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    # Looked at before opening: opening a device may do something, opening a FIFO may wake its writer.
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise NotAFileError(mode)
    file = os.open(name, _FILE, dir_fd=folder)
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise NotAFileError(mode)
    return file
