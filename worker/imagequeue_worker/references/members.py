"""`scheme:///file#member`: references that name one part of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import shown
from imagequeue_worker.references.paths import path_of_url

_CHUNK: Final = 1 << 20  # bytes


def split_member(ref: str, scheme: str) -> tuple[bytes, bytes]:
    """The file and the member, both percent-decoded; a `#` in the file's name is written %23.

    Raises ImageError `unsupported_reference` when one of them is missing, or the file is on another host.
    """
    location, separator, member = ref.partition("#")
    path = path_of_url(location)
    if not (path and separator and member):
        raise ImageError(
            ErrorCode.UNSUPPORTED_REFERENCE, f"{shown(ref)} names no member; write {scheme}:///path#member"
        )
    return path, unquote_to_bytes(member)


def chunks(file: int, offset: int, size: int) -> Iterator[bytes]:
    """The bytes of one part of an open file, piece by piece; fewer where the file ends before the part does."""
    while size > 0 and (chunk := os.pread(file, min(size, _CHUNK), offset)):
        yield chunk
        offset += len(chunk)
        size -= len(chunk)
