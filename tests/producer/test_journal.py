"""What the journal of a run keeps, and who may have it."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from imagequeue import Image, JournalError, Result, Status
from imagequeue.journal import journal_path, read_labels, read_problems, read_results
from imagequeue.journal_file import VERSION
from imagequeue.journal_writing import BROKEN, READ, Counts, Journal, SourceState
from imagequeue.sources.items import Found, Listed, Unreadable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "a.sqlite"


def image(id_: str, *, ref: str | None = None, label: str | None = None) -> Listed:
    return Listed(Image(id_, ref or f"/{id_}.jpg"), f"list:{id_}", f"behind {id_}", label)


def result(id_: str, entry: str = "5-0", status: Status = Status.OK) -> Result:
    return Result(id=id_, ref=f"/{id_}.jpg", status=status, entry=entry, job="iq-1", finished_at=1.0)


def begun(path: Path, *found: Found) -> Journal:
    journal = Journal(path)
    journal.begin(b"{}", ["list"])
    journal.note(0, found)
    return journal


def test_what_is_noted_is_there_after_a_second_opening(path: Path) -> None:
    begun(path, image("a"), image("b")).close()
    with Journal(path) as journal:
        assert journal.counts == Counts(images=2)
        assert journal.counts.in_flight == 2
        assert journal.plan == b"{}"
        assert journal.sources() == [SourceState(0, "list", "behind b", "reading")]
        assert list(journal.unsettled(sent=False)) == [(Image("a", "/a.jpg"), Image("b", "/b.jpg"))]


def test_an_id_counts_once_and_another_reference_under_it_is_a_problem(path: Path) -> None:
    with begun(path, image("a")) as journal:
        noted = journal.note(0, [image("a"), image("b"), image("a", ref="/other.jpg")])
        assert noted.new == (Image("b", "/b.jpg"),)
        assert journal.counts == Counts(images=2, duplicates=1, problems=1)
        ((place, why),) = read_problems(path)
        assert (place, "'a' has named another reference" in why) == ("list:a", True)


def test_what_was_sent_is_told_from_what_was_not(path: Path) -> None:
    with begun(path, image("a")) as journal:
        journal.all_sent()
        journal.note(0, [image("b")])
    with Journal(path) as journal:
        assert list(journal.unsettled(sent=True)) == [(Image("a", "/a.jpg"),)]
        assert list(journal.unsettled(sent=False)) == [(Image("b", "/b.jpg"),)]


def test_results_are_read_in_the_order_of_the_sources_also_while_it_is_open(path: Path) -> None:
    with begun(path, image("b"), image("a"), image("c")) as journal:
        own = journal.settle([result("a"), result("b"), result("stranger")], "7-1")
        assert [one.id for one in own] == ["a", "b"]
        assert [one.id for one in read_results(path)] == ["b", "a"]
        assert next(read_results(path)) == result("b")
        assert (journal.entry, journal.counts) == ("7-1", Counts(images=3, ok=2))


def test_a_newer_result_replaces_an_older_and_never_the_other_way_round(path: Path) -> None:
    with begun(path, image("a")) as journal:
        journal.settle([result("a", "9-1", Status.ERROR)], None)
        assert journal.counts == Counts(images=1, error=1)
        journal.settle([result("a", "10-0")], None)
        journal.settle([result("a", "9-1", Status.ERROR)], None)
        assert journal.counts == Counts(images=1, ok=1)
        assert [one.entry for one in read_results(path)] == ["10-0"]


def test_labels_are_those_of_the_manifest(path: Path) -> None:
    begun(path, image("a", label="n01440764"), image("b"), image("c", label="7")).close()
    assert list(read_labels(path)) == [("a", "n01440764"), ("c", "7")]


def test_more_results_than_one_page_are_read(path: Path) -> None:
    ids = [f"{number:05}" for number in range(2500)]
    with begun(path, *map(image, ids)) as journal:
        journal.settle(map(result, ids), None)
    assert [one.id for one in read_results(path)] == ids


def test_a_rejected_image_becomes_a_problem(path: Path) -> None:
    with begun(path, image("a")) as journal:
        journal.reject(Image("a", "/a.jpg"), "gone")
        assert journal.counts == Counts(problems=1)
    assert list(read_problems(path)) == [("/a.jpg", "gone")]


def test_sources_are_read_to_their_end_or_broken(path: Path) -> None:
    with Journal(path) as journal:
        journal.begin(b"", ["a", "b"])
        journal.end_source(0, READ)
        journal.end_source(1, BROKEN)
        assert [state.state for state in journal.sources()] == [READ, BROKEN]


def test_a_step_that_fails_leaves_nothing_behind(path: Path) -> None:
    with begun(path, image("a")) as journal:

        def breaking() -> object:
            yield image("b")
            yield Unreadable("list:3", "nothing", "behind 3")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            journal.note(0, breaking())  # type: ignore[arg-type]
        assert journal.counts == Counts(images=1)
        assert journal.sources()[0].cursor == "behind a"


def test_a_full_disk_is_an_error_and_what_was_there_stays(path: Path) -> None:
    with begun(path, *(image(f"{number}", label="x" * 1000) for number in range(100))) as journal:
        (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
        journal._database.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(JournalError, match="full"):
            journal.note(0, [image(f"more {number}", label="x" * 1000) for number in range(100)])
        assert journal.counts == Counts(images=100)
        assert journal.sources()[0].cursor == "behind 99"


def test_two_processes_cannot_have_it(path: Path) -> None:
    with Journal(path), pytest.raises(JournalError, match="in use by another process"):
        Journal(path)
    Journal(path).close()


def test_only_its_owner_may_read_it(path: Path) -> None:
    Journal(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 100)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    for name in ("text", "other"):
        with pytest.raises(JournalError):
            Journal(tmp_path / name)
        with pytest.raises(JournalError):
            list(read_results(tmp_path / name))


def test_a_database_of_our_version_without_our_tables_is_refused_and_let_go(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {VERSION}")
        other.execute("CREATE TABLE t (x)")
    other.close()
    with pytest.raises(JournalError, match="no such table"):
        Journal(path)
    path.unlink()
    Journal(path).close()


def test_a_journal_that_breaks_while_it_is_open_is_an_error_of_ours(path: Path) -> None:
    with begun(path, image("a")) as journal:
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE sources")
        other.close()
        with pytest.raises(JournalError, match="no such table"):
            journal.sources()


def test_a_journal_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        list(read_results(path))
    assert not path.exists()


def test_the_place_of_a_run_is_below_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert journal_path("holidays") == tmp_path / "imagequeue" / "runs" / "holidays.sqlite"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert journal_path("a") == Path("/home/somebody/.local/state/imagequeue/runs/a.sqlite")
