"""The checker finds what it is there to find: each test damages a sound queue in one way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from chaos.audit import COLLECTION, audit
from chaos.bench import Bench
from chaos.ledger import Findings, Ledger, Scale, Spread, read_ledgers, write_ledgers
from chaos.notebook import Notebook, read_notebook
from chaos.table import markdown_table
from imagequeue import Image
from imagequeue.contract import completed_key, decode_result, job_key, pending_key, results_key, totals_key


@pytest.fixture
def bench(redis_url: str, connection: redis.Redis) -> Iterator[Bench]:
    """Five images with their results: `a` to `d` are ok, `e` ends as not_found."""
    ours = Bench(redis_url)
    ours.clear()
    ours.submit("a", "b", "c")
    ours.submit("d", "e", bad=["e"])
    ours.finish_all()
    yield ours
    ours.close()


def findings(bench: Bench, attempts_max: int = 1) -> Findings:
    return audit(bench.connection, bench.noted, bench.truth, attempts_max=attempts_max)


def change(bench: Bench, id_: str, old: bytes, new: bytes) -> None:
    text = bench.connection.hget(results_key(COLLECTION), id_)
    assert old in text
    bench.connection.hset(results_key(COLLECTION), id_, text.replace(old, new))


def test_a_sound_queue_is_found_sound(bench: Bench) -> None:
    found = findings(bench)
    assert (found.accepted, found.terminal, found.ok, found.errors) == (5, 5, 4, {"not_found": 1})
    assert ledger(found).sound, found


def test_an_image_without_a_result_is_lost(bench: Bench) -> None:
    bench.noted["f"] = "/pictures/f.jpg"
    found = findings(bench)
    assert (found.accepted, found.terminal, found.lost) == (6, 5, 1)
    assert not ledger(found).sound


def test_other_probabilities_are_wrong(bench: Bench) -> None:
    change(bench, "a", b"0.75", b"0.7500000000000001")
    assert findings(bench).wrong == 1


def test_another_images_answer_is_wrong(bench: Bench) -> None:
    change(bench, "a", b"/pictures/a.jpg", b"/pictures/b.jpg")
    assert findings(bench).wrong == 1


def test_a_result_that_cannot_be_read_is_wrong(bench: Bench) -> None:
    bench.connection.hset(results_key(COLLECTION), "a", "no JSON")
    assert findings(bench).wrong == 1


def test_an_innocent_image_that_ends_as_worker_lost_is_wrong_and_named(bench: Bench) -> None:
    change(bench, "e", b"not_found", b"worker_lost")
    found = findings(bench)
    assert (found.wrong, found.innocent_worker_lost) == (1, 1)


def test_a_second_completion_entry_is_a_doubled_image(bench: Bench) -> None:
    bench.connection.xadd(completed_key(COLLECTION), {"id": "a", "status": "ok"})
    assert findings(bench).doubled == 1


def test_a_result_that_the_stream_does_not_name_is_unannounced(bench: Bench) -> None:
    entry = decode_result(bench.connection.hget(results_key(COLLECTION), "a")).entry
    bench.connection.xdel(completed_key(COLLECTION), entry)
    assert findings(bench).unannounced == 1


def test_more_attempts_than_allowed_are_found(bench: Bench) -> None:
    assert findings(bench, attempts_max=0).over_attempts == 5


def test_results_that_nobody_was_told_of_are_judged_too(bench: Bench) -> None:
    del bench.noted["a"]
    assert ledger(findings(bench)).sound
    change(bench, "a", b"0.75", b"0.5")
    assert findings(bench).wrong == 1


LEFTOVERS = {
    "a pending image": lambda client: client.hset(pending_key(COLLECTION), "x", "classify|iq-1"),
    "a lease": lambda client: client.zadd("rq:wip:classify", {"iq-1:iq1": 1.0}),
    "an execution": lambda client: client.hset("rq:execution:iq-1:iq1", "id", "iq1"),
    "a queued job": lambda client: client.rpush("rq:queue:classify", "iq-1"),
    "an intermediate list": lambda client: client.rpush("rq:queue:classify:intermediate", "iq-1"),
    "a job without an expiry": lambda client: client.hset(job_key("iq-1"), "status", "finished"),
    "a waiting count": lambda client: client.hincrby("imagequeue:waiting", "classify", 1),
    "a count too many": lambda client: client.hincrby(totals_key(COLLECTION), "ok", 1),
    "an unknown key": lambda client: client.set("rq:surprise", "1"),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_what_is_left_over_is_found(bench: Bench, what: str) -> None:
    LEFTOVERS[what](bench.connection)
    found = findings(bench)
    assert found.leftovers
    assert not ledger(found).sound


def test_a_job_that_ages_but_has_not_ended_is_left_over(bench: Bench) -> None:
    bench.connection.hset(job_key("iq-1"), "status", "started")
    bench.connection.expire(job_key("iq-1"), 60)
    assert "not ended" in findings(bench).leftovers[0]


# --- notebook and ledger ------------------------------------------------------------------------------------------


def test_a_notebook_survives_its_writer_and_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "notebook"
    assert read_notebook(path) == {}
    with Notebook(path) as notebook:
        notebook.note([Image("a", "/a.jpg"), Image("b", "/b c.jpg")])
    path.write_bytes(path.read_bytes() + b"c\t/c.jp")
    assert read_notebook(path) == {"a": "/a.jpg", "b": "/b c.jpg"}


def test_ranks_are_nearest_ranks() -> None:
    assert Spread.of([]) is None
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0)
    assert Spread.of(float(one) for one in range(1, 101)) == Spread(100, 50.0, 99.0, 100.0)


def test_a_ledger_comes_back_from_its_file_and_into_a_table(bench: Bench, tmp_path: Path) -> None:
    written = [ledger(findings(bench))]
    write_ledgers(tmp_path / "out" / "ledger.json", written)
    assert read_ledgers(tmp_path / "out" / "ledger.json") == written
    write_ledgers(tmp_path / "out" / "ledger.json", written)  # takes the place of the one before
    assert read_ledgers(tmp_path / "out" / "ledger.json") == written
    assert markdown_table(written).splitlines()[2].startswith("| bench | slice | 3 kills | 5 | 0 | 0 | 0 |")


def ledger(found: Findings) -> Ledger:
    return Ledger(
        storm="bench",
        scale=Scale.SLICE,
        seed=1,
        workers=1,
        faults={"kills": 3},
        findings=found,
        seconds=1.0,
        versions={},
    )
