"""Writes a net's folder: beside its place first, then renamed, so that nobody ever sees half of one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from imagequeue_worker.description import DESCRIPTION_FILE, NET_FILES, NetDescription, write_description
from imagequeue_worker.errors import NetUnavailable

_SIGNS = (*NET_FILES, DESCRIPTION_FILE)  # of a net, perhaps a damaged one


def check_place(folder: Path) -> None:
    """Refuse a place for a new net that holds something else, before any work is done for it.

    Raises NetUnavailable: it is a file, or a folder that holds no net.
    """
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).is_file() for name in _SIGNS):
        raise NetUnavailable(f"{folder} is not empty and holds no net; it would be replaced; name another --out")
    if folder.exists() and not folder.is_dir():
        raise NetUnavailable(f"{folder} is a file; a net is a folder; name another --out")


def write_net_folder(
    folder: Path,
    files: Mapping[str, bytes],
    description: NetDescription,
    check: Callable[[Path], None] | None = None,
) -> Path:
    """Write a net's two files and `net.json`; a net that is there already is replaced as a whole.

    `check` sees the finished folder before it has its name, and may raise to leave everything as it was.
    Raises NetUnavailable when the disk is full or may not be written; then nothing has changed.
    """
    check_place(folder)
    part: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        for name, data in files.items():
            (part / name).write_bytes(data)
        write_description(part, description)
        if check is not None:
            check(part)
        part.chmod(0o755)  # mkdtemp's folders are their owner's only; a cache may be shared
        _replace(part, folder)
    except OSError as error:
        raise NetUnavailable(
            f"{folder} cannot be written: {error.strerror or error}; free some space or name another folder"
        ) from error
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _replace(part: Path, folder: Path) -> None:
    """Move a finished folder to its place; a folder that is there cannot be replaced in one step, so it steps aside."""
    if not folder.exists():
        part.rename(folder)
        return
    aside = part.with_suffix(".old")
    folder.rename(aside)
    try:
        part.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
