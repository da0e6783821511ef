"""What a source gives: images to submit, and what could not be read, each with its place and a cursor behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imagequeue import contract
from imagequeue.contract import Image
from imagequeue.errors import ContractError
from imagequeue.orders import check_sendable, path_reference
from imagequeue.sources.arguments import has_scheme


@dataclass(frozen=True, slots=True)
class Listed:
    """One image of a source.

    `place` is where it stands (`list.csv:12`), for people; `cursor` is where reading goes on behind it, as its source
    understands it; `share` is how much of the source is read, 0 to 1, where that is known.
    """

    image: Image
    place: str
    cursor: str
    label: str | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One line, row or member that is no image that could be submitted, and why; the rest goes on."""

    place: str
    why: str
    cursor: str


Found = Listed | Unreadable


class Source(Protocol):
    """Something that lists images: in a stable order, with stable ids, in bounded memory."""

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; "" is the beginning. Raises SourceError, which says where it broke off."""


def listed(
    ref: str,
    place: str,
    cursor: str,
    *,
    id_: str | None = None,
    label: str | None = None,
    share: float | None = None,
) -> Found:
    """An image, unless it cannot be sent or its label cannot be written down."""
    try:
        image = check_sendable(Image(id=contract.image_id(ref) if id_ is None else id_, ref=ref))
        (label or "").encode()
    except ContractError as error:
        return Unreadable(place, str(error), cursor)
    except UnicodeEncodeError:
        return Unreadable(place, "its label is not valid Unicode; re-encode it", cursor)
    return Listed(image, place, cursor, label, share)


def written_reference(text: str, base: Path) -> str:
    """The reference that stands in a list: with a scheme as it is, else a path below `base`; nothing is looked at."""
    if has_scheme(text):
        return text
    path = os.path.abspath(os.path.join(base, text))  # noqa: PTH100, PTH118  a Path takes five times as long
    return path if path.isascii() else path_reference(Path(path))
