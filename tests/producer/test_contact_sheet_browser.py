"""The contact sheet in a real browser: filters clicked, keys pressed, hostile text shown as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from chromium import Page, browser, running_page
from imagequeue.contract import Result
from imagequeue.labels import Labels
from imagequeue.reports.contact_sheet import write_contact_sheet
from imagequeue.reports.judging import judged
from result_samples import BOX, CAT, CUP, DOG, FOX, SKY, failed, ok

HOSTILE = '</script><img src=x onerror="window.hacked = 1"><!--'

pytestmark = pytest.mark.skipif(browser() is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = browser()
    assert program is not None
    with running_page(program, tmp_path_factory.mktemp("profile")) as ours:
        yield ours


def show(page: Page, folder: Path, results: Iterable[Result], labels: dict[str, str | int] | None = None) -> None:
    """Write the results' page and open it."""
    known = None if labels is None else Labels(Path("/"), labels, {})
    text = io.BytesIO()
    write_contact_sheet(judged(results, known), text, title="holidays", labelled=labels is not None)
    file = folder / "sheet.html"
    file.write_bytes(text.getvalue())
    page.events.clear()
    page.open(file)


def shown(page: Page) -> list[str]:
    """The ids of the cards, in their order."""
    return page.value("[...document.querySelectorAll('.card')].map(card => card.dataset.id)")


SOME = [ok("cat", CAT, best=0.9), ok("dog", DOG, best=0.4), ok("cup", CUP, best=0.1), failed("gone")]


def test_every_result_has_its_card_with_label_probability_or_badge(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME)
    assert shown(page) == ["cat", "dog", "cup", "gone"]
    texts = page.value("[...document.querySelectorAll('.card')].map(card => card.innerText)")
    assert "tabby, tabby cat" in texts[0]
    assert "90.0 %" in texts[0]
    assert "not_found" in texts[3]
    assert page.value("document.querySelector('.card meter').value") == 0.9


def test_a_picture_that_can_be_read_is_shown(page: Page, tmp_path: Path, pictures: list[Path]) -> None:
    pytest.importorskip("PIL")
    show(page, tmp_path, [ok("a", CUP, ref=str(pictures[0])), ok("b", CUP, ref="https://example.org/b.jpg")])
    page.until("document.querySelector('.card img').naturalWidth === 160")
    assert page.value("document.querySelector('.placeholder').textContent") == "https://example.org/b.jpg"


@pytest.mark.parametrize(
    ("select", "value", "left"),
    [
        ("#class", "golden retriever", ["dog"]),
        ("#code", "not_found", ["gone"]),
        ("#code", "ok", ["cat", "dog", "cup"]),
        ("#sort", "unsurest", ["gone", "cup", "dog", "cat"]),
        ("#sort", "class", ["gone", "cup", "dog", "cat"]),
        ("#sort", "id", ["cat", "cup", "dog", "gone"]),
    ],
)
def test_pictures_are_chosen_by_class_and_code_and_sorted(
    page: Page, tmp_path: Path, select: str, value: str, left: list[str]
) -> None:
    show(page, tmp_path, SOME)
    page.choose(select, value)
    assert shown(page) == left
    assert page.value("document.querySelector('#shown').textContent") == f"{len(left)} of 4"


def test_pictures_are_chosen_by_probability_and_reset(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME)
    page.click("#from")
    page.value("document.activeElement.select()")
    page.type("30")
    page.press("Tab")
    page.value("document.activeElement.select()")
    page.type("80")
    assert shown(page) == ["dog"]
    page.click("button[type=reset]")
    page.until("document.querySelectorAll('.card').length === 4")


def test_typing_searches_ids_references_and_labels(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME)
    page.click("#search")
    page.type("gone")
    assert shown(page) == ["gone"]
    page.value("document.activeElement.select()")
    page.type("retriever PICTURES")
    assert shown(page) == ["dog"]


def test_labels_bring_accuracy_and_a_filter_for_wrong_answers(page: Page, tmp_path: Path) -> None:
    results = [ok("a", CAT, DOG, CUP, FOX, BOX), ok("b", CAT, DOG, CUP, FOX, BOX), ok("c", CAT, DOG, CUP, FOX, BOX)]
    show(page, tmp_path, results, {"a": 281, "b": "golden retriever", "c": "submarine"})
    assert "top-1 33.3 %, top-5 66.7 % of 3" in page.value("document.querySelector('#accuracy-line').textContent")
    for verdict, ids in {"right": ["a"], "top5": ["b"], "wrong": ["c"]}.items():
        page.choose("#verdict", verdict)
        assert shown(page) == ids
    page.click("#accuracy summary")
    assert "submarine" in page.value("document.querySelector('#confusions').innerText")


def test_the_keyboard_alone_reaches_pictures_and_their_details(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME)
    page.press("Tab")  # the link that skips the filters
    page.press("Enter", "Tab")
    assert page.value("document.activeElement.dataset.id") == "cat"
    page.press("ArrowRight")
    assert page.value("document.activeElement.dataset.id") == "dog"
    page.press("End")
    assert page.value("document.activeElement.dataset.id") == "gone"
    page.press("Home", "Enter")
    page.until("document.querySelector('#detail').open")
    assert "/pictures/cat.jpg" in page.value("document.querySelector('#detail').innerText")
    page.press("Escape")
    page.until("!document.querySelector('#detail').open")
    assert page.value("document.activeElement.dataset.id") == "cat"


def test_every_control_has_a_name_for_those_who_do_not_see(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME, {"cat": 281})
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "searchbox", "combobox", "spinbutton", "meter", "list", "dialog", "MenuListPopup"}
    named = [node for node in nodes if not node.get("ignored") and node["role"]["value"] in roles - {"MenuListPopup"}]
    assert {"button", "searchbox", "combobox", "spinbutton", "list"} <= {node["role"]["value"] for node in named}
    assert [node for node in named if not node.get("name", {}).get("value")] == []


@pytest.mark.parametrize("field", ["id", "reference", "label", "code", "message", "known class"])
def test_hostile_text_is_shown_as_text_wherever_it_stands(page: Page, tmp_path: Path, field: str) -> None:
    result = {
        "id": ok(HOSTILE, CAT),
        "reference": ok("a", CAT, ref=HOSTILE),
        "label": ok("a", (1, HOSTILE, HOSTILE)),
        "code": failed("a", code=HOSTILE),
        "message": failed("a", message=HOSTILE),
        "known class": ok("a", CAT),
    }[field]
    show(page, tmp_path, [result], {"a": HOSTILE} if field == "known class" else None)
    page.click(".card")
    page.until("document.querySelector('#detail').open")
    assert HOSTILE in page.value("document.body.textContent")
    assert page.value("[document.querySelectorAll('[onerror]').length, typeof window.hacked]") == [0, "undefined"]


def test_the_page_asks_nothing_of_any_network_and_breaks_no_rule_of_its_own(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, [*SOME, ok("web", SKY, ref="https://example.org/a.jpg"), ok("t", CAT, ref=HOSTILE)])
    page.click(".card")
    asked = [e["params"]["request"]["url"] for e in page.events if e.get("method") == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    complaints = [e for e in page.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert complaints == []


def test_dark_and_light_follow_the_reader(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, SOME)
    grounds = set()
    for scheme in ("dark", "light"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        grounds.add(page.value("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_ten_thousand_pictures_are_made_part_by_part_and_all_are_searched(page: Page, tmp_path: Path) -> None:
    show(page, tmp_path, (ok(f"picture-{number}", CAT if number % 2 else DOG) for number in range(10_000)))
    assert page.value("document.querySelector('#shown').textContent") == "10,000 of 10,000"
    assert len(shown(page)) < 1_000
    before = len(shown(page))
    page.value("window.scrollTo(0, document.body.scrollHeight)")
    page.until(f"document.querySelectorAll('.card').length > {before}")
    page.click("#search")
    page.type("picture-9999")
    assert shown(page) == ["picture-9999"]
