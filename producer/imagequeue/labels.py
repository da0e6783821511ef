"""Known classes of pictures, out of a manifest: what answers are compared with.

Three forms, told apart by the first line:
- JSON Lines: objects with `id`, `ref` or `file`, and with `index`, `wnid` or `label`;
- CSV or TSV whose header has those names;
- Caffe's lists: `file class` in each line, without a header.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from imagequeue.contract import Result
from imagequeue.errors import ConfigurationError
from imagequeue.scoring import Truth

_NAMES: Final = ("id", "ref", "file")
_CLASSES: Final = ("index", "wnid", "label")


@dataclass(frozen=True, slots=True)
class Labels:
    """Classes by what pictures are called: an id, a reference, a file, or the last part of its path.

    `base` is the folder that relative files start from. `by_last_part` has only names that mean one class.
    """

    base: Path
    by_name: Mapping[str, Truth]
    by_last_part: Mapping[str, Truth]

    def __len__(self) -> int:
        return len(self.by_name)

    def truth_of(self, result: Result) -> Truth | None:
        """The class of a result's picture; None when the manifest does not have it."""
        for name in self._names_of(result):
            if (truth := self.by_name.get(name)) is not None:
                return truth
        return self.by_last_part.get(_last_part(result.ref))

    def _names_of(self, result: Result) -> Iterator[str]:
        yield result.id
        yield result.ref
        path = PurePosixPath(_path_of(result.ref))
        if path.is_absolute() and path.is_relative_to(self.base):
            yield str(path.relative_to(self.base))


def read_labels(manifest: Path) -> Labels:
    """Read a manifest; raise ConfigurationError that names the line where it cannot be read."""
    by_name: dict[str, Truth] = {}
    for number, name, truth in _rows(manifest):
        if by_name.setdefault(name, truth) != truth:
            raise ConfigurationError(
                f"{manifest}:{number}: {name[:80]!r} is {truth!r} here and {by_name[name]!r} before; keep one of them"
            )
    if not by_name:
        raise ConfigurationError(f"{manifest} has no labels; write `file class` in each line")
    return Labels(manifest.absolute().parent, by_name, _unambiguous_last_parts(by_name))


def from_pairs(pairs: Iterable[tuple[str, str]]) -> Labels | None:
    """The labels of (image id, class) pairs; None when there are none."""
    by_name = {id_: _truth(label) for id_, label in pairs}
    return Labels(Path("/"), by_name, {}) if by_name else None


def _rows(manifest: Path) -> Iterator[tuple[int, str, Truth]]:
    """(line, name, class) of every picture."""
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            if first.lstrip().startswith("{"):
                yield from _from_json_lines(manifest, file)
            elif delimiter := _delimiter_of_header(first):
                rows = csv.DictReader(file, delimiter=delimiter)
                for row in rows:
                    yield rows.line_num, *_pair(manifest, rows.line_num, row)
            else:
                yield from _from_list(manifest, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"labels {manifest} cannot be read: {error}") from error


def _delimiter_of_header(line: str) -> str | None:
    """What separates the columns of a header; None when the line is none."""
    for delimiter in (",", "\t"):
        columns = {column.strip('"') for column in line.strip().split(delimiter)}
        if columns & set(_NAMES) and columns & set(_CLASSES):
            return delimiter
    return None


def _from_json_lines(manifest: Path, file: Iterator[str]) -> Iterator[tuple[int, str, Truth]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                row = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ConfigurationError(f"{manifest}:{number} is no JSON object: {error}") from error
            yield number, *_pair(manifest, number, row)


def _from_list(manifest: Path, file: Iterator[str]) -> Iterator[tuple[int, str, Truth]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            name, *rest = line.strip().rsplit(None, 1)
            if not rest:
                raise ConfigurationError(
                    f"{manifest}:{number} is {line.strip()[:80]!r}; write `file class`, or a CSV header with one of "
                    f"{', '.join(_NAMES)} and one of {', '.join(_CLASSES)}"
                )
            yield number, name, _truth(rest[0])


def _pair(manifest: Path, number: int, row: Mapping[str, Any]) -> tuple[str, Truth]:
    name = next((str(row[column]) for column in _NAMES if row.get(column)), "")
    value = next((row[column] for column in _CLASSES if row.get(column) not in (None, "")), None)
    if not name or value is None:
        raise ConfigurationError(
            f"{manifest}:{number} needs one of {', '.join(_NAMES)} and one of {', '.join(_CLASSES)}"
        )
    return name, _truth(str(value))


def _truth(text: str) -> Truth:
    """An index when it is a number, else a wnid or a label."""
    return int(text) if text.isascii() and text.isdigit() else text


def _unambiguous_last_parts(by_name: Mapping[str, Truth]) -> dict[str, Truth]:
    found: dict[str, Truth] = {}
    ambiguous: set[str] = set()
    for name, truth in by_name.items():
        part = _last_part(name)
        if found.setdefault(part, truth) != truth:
            ambiguous.add(part)
    return {part: truth for part, truth in found.items() if part not in ambiguous}


def _path_of(ref: str) -> str:
    """The path of a plain or `file:` reference; anything else stays as it is."""
    return unquote(urlsplit(ref).path) if ref.startswith("file:") else ref


def _last_part(ref: str) -> str:
    return _path_of(ref[:4096]).rpartition("/")[2]
