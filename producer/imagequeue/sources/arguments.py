"""Where references come from: what stands on a command line becomes a stream of references."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from imagequeue.errors import ConfigurationError
from imagequeue.orders import path_reference

# What a folder is searched for; a file that is named may have any name.
IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "avif", "gif", "bmp", "dib", "tif", "tiff"),
        *("pbm", "pgm", "pnm", "ppm"),
    )
)
STANDARD_INPUT = "-"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def references(arguments: Iterable[str], lines: Iterable[bytes]) -> Iterator[str]:
    """The references that arguments stand for: files, folders, `-` for `lines`, or `scheme:…` as it is.

    Raises ConfigurationError at a path that is not there, when the stream comes to it.
    """
    for argument in arguments:
        if argument == STANDARD_INPUT:
            yield from from_lines(lines)
        elif is_reference(argument):
            yield argument
        elif Path(argument).is_dir():
            yield from from_folder(Path(argument))
        elif Path(argument).exists():
            yield path_reference(Path(argument))
        else:
            raise ConfigurationError(
                f"{argument!r} is neither a file nor a folder; write file:///… for what only workers see"
            )


def is_reference(text: str) -> bool:
    """Whether it names its own scheme. A file that is called so is a file."""
    return has_scheme(text) and not os.path.lexists(text)


def has_scheme(text: str) -> bool:
    """Whether it begins like `https:`."""
    return _SCHEME.match(text) is not None


def from_lines(lines: Iterable[bytes]) -> Iterator[str]:
    """One reference per line; empty lines are skipped, paths become absolute and are not looked at."""
    for line in lines:
        text = os.fsdecode(line).rstrip("\r\n")
        if text.strip():
            yield text if has_scheme(text) else path_reference(Path(text))


def from_folder(folder: Path) -> Iterator[str]:
    """The images below a folder, by suffix, in the order of their names; follows no links to folders."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield path_reference(Path(root, name))
