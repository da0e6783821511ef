"""Which column of a manifest is what: named by options, or recognized by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imagequeue.errors import SourceError
from imagequeue.sources.items import Found, Unreadable, listed, written_reference

REF_NAMES = (
    *("ref", "reference", "path", "file", "filename", "file_name", "filepath", "image", "image_path", "img"),
    *("url", "uri", "image_url", "location"),
)
ID_NAMES = ("id", "image_id")
LABEL_NAMES = ("label", "wnid", "class", "class_name", "target")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of references, ids and labels: names, or numbers from 1 for a CSV without a header.

    None is recognized by the names above; ids default to a hash of the reference.
    """

    ref: str | None = None
    id: str | None = None
    label: str | None = None

    @property
    def numbered(self) -> bool:
        """Whether they are numbers: the first line is no header then."""
        named = [name for name in (self.ref, self.id, self.label) if name is not None]
        return bool(named) and all(name.isdecimal() for name in named)

    def within(self, header: Sequence[str], place: str) -> ColumnNames:
        """The columns of a table with this header; raise SourceError when it has not the one that is asked for."""
        ref = _find(self.ref, REF_NAMES, header, place)
        if ref is None:
            raise SourceError(
                f"{place} has the columns {', '.join(header)[:200]}, and none is called {', '.join(REF_NAMES[:4])} …; "
                "name the one with the references by --ref-column"
            )
        return ColumnNames(ref, _find(self.id, ID_NAMES, header, place), _find(self.label, LABEL_NAMES, header, place))


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The columns of one table, as it writes them; None is not there."""

    ref: str
    id: str | None
    label: str | None

    def names(self) -> list[str]:
        """Those that are there."""
        return [name for name in (self.ref, self.id, self.label) if name is not None]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a record stands: for people, for reading on behind it, and how much of the source lies before."""

    place: str
    cursor: str
    share: float | None


def record(ref: object, id_: object, label: object, base: Path, spot: Spot) -> Found:
    """The image of one record; numbers become text, paths are below `base`."""
    texts = [_text(value) for value in (ref, id_, label)]
    if any(text is None for text in texts):
        return Unreadable(spot.place, "its reference, id or label is neither text nor a number", spot.cursor)
    written, given, name = texts
    if not written or not written.strip():
        return Unreadable(spot.place, "it has no reference", spot.cursor)
    if id_ is not None and not given:
        return Unreadable(spot.place, "its id is empty", spot.cursor)
    return listed(
        written_reference(written, base),
        spot.place,
        spot.cursor,
        id_=given or None,
        label=name or None,
        share=spot.share,
    )


def _text(value: object) -> str | None:
    """Text of what a record may hold: "" for nothing, None for what is no text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _find(asked: str | None, known: Sequence[str], header: Sequence[str], place: str) -> str | None:
    if asked is not None:
        if asked not in header:
            raise SourceError(f"{place} has no column {asked!r}; it has {', '.join(header)[:200]}")
        return asked
    by_name = {name.strip().lower(): name for name in reversed(header)}
    return next((by_name[name] for name in known if name in by_name), None)
