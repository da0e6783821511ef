"""A file that is there whole or not at all, or standard output."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from imagequeue.errors import ConfigurationError


@contextmanager
def writing(path: Path | None) -> Iterator[BinaryIO]:
    """Open for writing: None is standard output; a file is replaced when all of it has been written.

    Raises ConfigurationError when it cannot be written; what was there before stays as it was.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        # A device or a pipe (/dev/stdout) is written to, not replaced.
        with path.open("wb") if path.exists() and not path.is_file() else _replacing(path) as file:
            yield file
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its place at the end, synced; after an error it is removed."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
