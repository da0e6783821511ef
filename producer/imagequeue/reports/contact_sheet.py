"""The HTML contact sheet: one self-contained page, out of the three files in page/.

Ids, references, labels and messages are hostile: on the page they are JSON inside a block that no browser runs, with
`<`, `>` and `&` escaped, and the page's script puts them in place as text only. A content security policy allows that
script, that style and `data:` pictures, and nothing from anywhere else. Cards are written as results come, so memory is
bounded; the page builds its list part by part as it is scrolled.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import BinaryIO, Final

import msgspec

from imagequeue.contract import StageSeconds
from imagequeue.reports.judging import Judged
from imagequeue.reports.summary import Tally
from imagequeue.reports.thumbnails import pillow_is_there, with_thumbnails

SUMMARY_ROWS: Final = 1_000
TEXT_CHARACTERS_MAX: Final = 500  # of a reference or a message; `data:` references carry a whole picture


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """One picture, as page/script.js reads it."""

    id: str
    ref: str
    classes: tuple[tuple[str, float, int, str | None], ...] = ()  # label, probability, index, wnid
    code: str = ""
    message: str = ""
    truth: str = ""
    rank: int = 0  # place of the truth among the classes; 0: not there
    thumbnail: str = ""
    model: str = ""
    worker: str = ""
    attempt: int = 0
    total: float = 0.0  # seconds from submission to result
    stages: StageSeconds = StageSeconds()


def write_contact_sheet(
    results: Iterable[Judged], output: BinaryIO, *, title: str, labelled: bool, thumbnails: bool = True
) -> None:
    """Write the page; pictures are shown in the order given. Without Pillow, or `thumbnails`, it shows references."""
    tally = Tally(labelled=labelled)
    before, between, after = _template(title)
    output.write(before)
    for number, card in enumerate(_cards(tally, results, thumbnails and pillow_is_there())):
        output.write((b",\n" if number else b"") + _inert(card))
    output.write(between)
    output.write(_inert(tally.summary(SUMMARY_ROWS)))
    output.write(after)


def _cards(tally: Tally, results: Iterable[Judged], thumbnails: bool) -> Iterator[Card]:
    counted = tally.watch(results)
    shown = with_thumbnails(counted, lambda one: one.result.ref) if thumbnails else ((one, None) for one in counted)
    for one, picture in shown:
        yield _card(one, picture, "" if one.truth is None else tally.name_of(one.truth))


def _card(one: Judged, picture: str | None, truth: str) -> Card:
    result = one.result
    return Card(
        id=result.id,
        ref=_short(result.ref),
        classes=tuple((answer.label, answer.probability, answer.index, answer.wnid) for answer in result.classes),
        code=result.error.code if result.error else "",
        message=_short(result.error.message) if result.error else "",
        truth=truth,
        rank=one.rank or 0,
        thumbnail=picture or "",
        model=result.model.name if result.model else "",
        worker=result.worker,
        attempt=result.attempt,
        total=max(0.0, result.finished_at - result.submitted_at) if result.submitted_at else 0.0,
        stages=result.seconds,
    )


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}…"


def _inert(value: object) -> bytes:
    """JSON that holds no character which HTML could take for markup; in JSON these stand in strings only."""
    text = msgspec.json.encode(value)
    for character in b"<>&":
        text = text.replace(bytes([character]), b"\\u%04x" % character)
    return text


def _template(title: str) -> tuple[bytes, bytes, bytes]:
    """The page before the pictures, between them and the summary, and after it."""
    page = resources.files(__package__) / "page"
    style, script = (page.joinpath(name).read_text("utf-8") for name in ("style.css", "script.js"))
    values = {
        "style hash": _csp_hash(style),
        "script hash": _csp_hash(script),
        "title": html.escape(title),
        "style": style,
        "script": script,
    }
    template = re.split(r"\[\[pictures\]\]|\[\[summary\]\]", page.joinpath("page.html").read_text("utf-8"))
    # In one pass: what stands in a title is never taken for a place to fill.
    before, between, after = (re.sub(r"\[\[([a-z ]+)\]\]", lambda name: values[name[1]], part) for part in template)
    return before.encode(), between.encode(), after.encode()


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
