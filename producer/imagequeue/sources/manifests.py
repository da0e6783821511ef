"""Lists of references: one per line, CSV, JSON Lines; out of a file or standard input.

Relative paths are below the list's folder, those of standard input below the working directory. A cursor is
`byte offset:line number`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from imagequeue.contract import REF_BYTES_MAX
from imagequeue.errors import SourceError
from imagequeue.sources.columns import Columns, Spot, record
from imagequeue.sources.items import Found, Unreadable
from imagequeue.sources.lines import Lines, LineTooLong, open_list

_DELIMITERS = "\t;,|"
_NO_COLUMNS = Columns()

Form = Callable[[Lines, Path, Columns, str], Iterator[Found]]
"""Reads lines as a list: relative paths below a folder, with these columns, from a cursor on."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A list in a file."""

    path: Path
    form: Form
    columns: Columns = _NO_COLUMNS
    base: Path | None = None

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError."""
        with open_list(self.path) as file:
            yield from self.form(Lines(file, str(self.path)), self.base or self.path.parent, self.columns, after)


@dataclass(frozen=True, slots=True)
class Piped:
    """A list on standard input: to go on, it is read up to the cursor once more, so it must be the same."""

    file: BinaryIO
    form: Form
    columns: Columns = _NO_COLUMNS
    base: Path | None = None

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError."""
        return self.form(Lines(self.file, "standard input", pipe=True), self.base or Path.cwd(), self.columns, after)


def read_text(lines: Lines, base: Path, _columns: Columns, after: str) -> Iterator[Found]:
    """One reference per line."""
    return _by_line(lines, after, lambda text, spot: record(text.rstrip("\r\n"), None, None, base, spot))


def read_json_lines(lines: Lines, base: Path, columns: Columns, after: str) -> Iterator[Found]:
    """One JSON object per line, or one JSON text that is a reference."""
    return _by_line(lines, after, lambda text, spot: _json_record(text, base, columns, spot))


def _by_line(lines: Lines, after: str, found_in: Callable[[str, Spot], Found]) -> Iterator[Found]:
    """What stands in each line behind a cursor; empty lines are skipped."""
    if after:
        lines.skip_to(after)
    while True:
        try:
            for text in lines:
                if text.strip():
                    yield found_in(text, Spot(lines.place, lines.cursor, lines.share))
            return
        except LineTooLong as error:
            yield Unreadable(lines.place, str(error), lines.cursor)


def _json_record(text: str, base: Path, columns: Columns, spot: Spot) -> Found:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        return Unreadable(spot.place, f"the line is no JSON: {error}", spot.cursor)
    if isinstance(value, str):
        return record(value, None, None, base, spot)
    if not isinstance(value, dict):
        return Unreadable(spot.place, "the line is neither a JSON object nor a text", spot.cursor)
    try:
        named = columns.within(list(value), spot.place)
    except SourceError as error:
        return Unreadable(spot.place, str(error), spot.cursor)
    id_ = value.get(named.id) if named.id is not None else None
    return record(value[named.ref], id_, value.get(named.label) if named.label else None, base, spot)


def read_csv(lines: Lines, base: Path, columns: Columns, after: str) -> Iterator[Found]:
    """Records of a CSV with a header, or without one when the columns are numbers. Raises SourceError."""
    csv.field_size_limit(2 * REF_BYTES_MAX)  # `data:` references carry their bytes
    delimiter, places = _table(lines, columns)
    if after:
        lines.skip_to(after)
    ref, id_, label = places
    while True:
        try:
            first = lines.number + 1
            for row in csv.reader(lines, delimiter=delimiter):
                spot = Spot(lines.place_of(first), lines.cursor, lines.share)
                first = lines.number + 1
                if not any(row):
                    continue
                if len(row) <= max(place for place in places if place is not None):
                    yield Unreadable(spot.place, f"the row has {len(row)} columns, too few", spot.cursor)
                    continue
                yield record(
                    row[ref],
                    row[id_] if id_ is not None else None,
                    row[label] if label is not None else None,
                    base,
                    spot,
                )
            return
        except (csv.Error, LineTooLong) as error:
            yield Unreadable(lines.place, str(error), lines.cursor)


def _table(lines: Lines, columns: Columns) -> tuple[str, tuple[int, int | None, int | None]]:
    """The delimiter, and which columns (from 0) are reference, id and label."""
    if columns.numbered:
        numbers = [None if name is None else int(name) - 1 for name in (columns.ref or "1", columns.id, columns.label)]
        if any(number is not None and number < 0 for number in numbers):
            raise SourceError("columns are numbered from 1")
        first, second, third = numbers
        return ("\t" if lines.name.endswith((".tsv", ".tab")) else ","), (first or 0, second, third)
    try:
        header_line = next(lines, "")
    except LineTooLong as error:
        raise SourceError(f"{lines.place} is no header of a CSV: {error}") from error
    delimiter = max(_DELIMITERS, key=header_line.count) if any(map(header_line.count, _DELIMITERS)) else ","
    header = next(csv.reader([header_line], delimiter=delimiter), [])
    named = columns.within(header, lines.place)
    place_of = {name: place for place, name in reversed(list(enumerate(header)))}
    return delimiter, (
        place_of[named.ref],
        None if named.id is None else place_of[named.id],
        None if named.label is None else place_of[named.label],
    )
