"""The producer's notebook: one line per image that Redis has acknowledged, `<id> TAB <reference>`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from imagequeue.contract import Image


class Notebook:
    """Appends; what has been noted survives the death of its writer. A context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)  # one write(2) per note: all of it, or a line without its end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def note(self, images: Iterable[Image]) -> None:
        """Note images whose acceptance was acknowledged."""
        self._file.write("".join(f"{image.id}\t{image.ref}\n" for image in images).encode())


def read_notebook(path: Path) -> dict[str, str]:
    """Image id -> reference; a last line that was cut off does not count."""
    if not path.exists():
        return {}
    whole, _, _ = path.read_bytes().decode().rpartition("\n")
    pairs = (line.partition("\t") for line in whole.split("\n") if line)
    return {id_: ref for id_, _, ref in pairs}
