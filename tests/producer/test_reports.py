"""Results as files: cells as they are, thumbnails of what may be read, and text that stays text."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagequeue.reports.contact_sheet import write_contact_sheet
from imagequeue.reports.csv_file import write_csv
from imagequeue.reports.judging import Judged
from imagequeue.reports.rows import COLUMNS, row_of
from imagequeue.reports.thumbnails import SIDE_PIXELS, thumbnail, with_thumbnails
from result_samples import CAT, DOG, SKY, failed, ok

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028\"'&amp;\x1b[31m=cmd()\r\n,"


def page_of(*results: Judged, labelled: bool = False, title: str = "t") -> str:
    output = io.BytesIO()
    write_contact_sheet(results, output, title=title, labelled=labelled, thumbnails=False)
    return output.getvalue().decode()


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_row_has_a_cell_of_its_type_for_every_column() -> None:
    for result in (ok("a", CAT), ok("b", SKY), failed("c")):
        cells = row_of(Judged(result, 281, 1))
        for cell, kind in zip(cells, COLUMNS.values(), strict=True):
            assert cell is None or type(cell) is kind


def test_csv_carries_any_text_unchanged() -> None:
    output = io.BytesIO()
    write_csv([Judged(ok(HOSTILE, CAT, ref=HOSTILE))], output)
    (row,) = csv.DictReader(io.StringIO(output.getvalue().decode(), newline=""))
    assert (row["id"], row["ref"]) == (HOSTILE, HOSTILE)


# --- thumbnails ----------------------------------------------------------------------------------------------------


def size_of(url: str | None) -> tuple[int, int]:
    image = pytest.importorskip("PIL.Image")
    assert url is not None
    head, _, body = url.partition(",")
    assert head == "data:image/webp;base64"
    return image.open(io.BytesIO(base64.b64decode(body))).size


def test_a_picture_is_shown_small(pictures: list[Path]) -> None:
    for ref in (str(pictures[0]), pictures[0].as_uri()):
        assert max(size_of(thumbnail(ref))) == SIDE_PIXELS


def test_a_data_reference_is_shown(pictures: list[Path]) -> None:
    encoded = base64.b64encode(pictures[0].read_bytes()).decode()
    assert max(size_of(thumbnail(f"data:image/png;base64,{encoded}"))) == SIDE_PIXELS


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    exif = image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.new("RGB", (320, 160)).save(tmp_path / "turned.jpg", exif=exif)
    assert size_of(thumbnail(str(tmp_path / "turned.jpg"))) == (80, 160)


def test_what_is_no_readable_picture_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "huge.jpg").touch()
    os.truncate(tmp_path / "huge.jpg", 1 << 40)
    (tmp_path / "program.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    names = ("pipe", "text.jpg", "huge.jpg", "program.eps", "nothing.jpg", ".")
    odd = ["/dev/zero", "https://example.org/a.jpg", "file://host/a.jpg", "data:,", "data:;base64,!", "a.jpg", "", "\0"]
    assert [thumbnail(ref) for ref in [*(str(tmp_path / name) for name in names), *odd]] == [None] * (
        len(names) + len(odd)
    )


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    bomb = tmp_path / "bomb.ppm"
    bomb.write_bytes(b"P6 60000 60000 255\n")
    assert thumbnail(str(bomb)) is None


def test_pictures_come_in_their_order_and_bounded_ahead(pictures: list[Path]) -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1_000):
            read.append(number)
            yield number

    shown = with_thumbnails(items(), lambda number: str(pictures[number % 3]))
    assert [next(shown)[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(read) < 100
    shown.close()


# --- the contact sheet as text ---------------------------------------------------------------------------------------


def test_hostile_text_never_leaves_its_block() -> None:
    truth = Judged(ok(HOSTILE, (1, HOSTILE, HOSTILE), ref=HOSTILE), HOSTILE, None)
    error = Judged(failed("b", code=HOSTILE, message=HOSTILE))
    page = page_of(truth, error, labelled=True, title=HOSTILE)
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script") == 3
    data = re.search(r'<script type="application/json" id="pictures-data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    cards = json.loads(data[1])
    assert (cards[0]["id"], cards[0]["truth"], cards[1]["message"]) == (HOSTILE, HOSTILE, HOSTILE)


def test_the_policy_allows_this_script_and_style_only() -> None:
    page = page_of(Judged(ok("a", CAT)))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert re.findall(r"https?:|//[a-z]|unsafe", page.replace(policy, "")) == []


def test_a_page_without_results_is_a_page() -> None:
    page = page_of()
    assert '"pictures-data">[]</script>' in page


def test_long_references_are_cut() -> None:
    assert len(page_of(Judged(ok("a", CAT, ref="data:image/png;base64," + "A" * 1_000_000)))) < 50_000


def test_the_page_is_written_in_bounded_memory(tmp_path: Path) -> None:
    results = (Judged(ok(f"{number:0100}", CAT, DOG)) for number in range(20_000))
    with (tmp_path / "sheet.html").open("wb") as file:
        tracemalloc.start()
        write_contact_sheet(results, file, title="t", labelled=False, thumbnails=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < (tmp_path / "sheet.html").stat().st_size / 4
