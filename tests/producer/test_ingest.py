"""`imagequeue ingest`: what it submits, collects, tells and goes on with."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis
from click.testing import Result

from imagequeue import Image, Producer, Status, contract, ingesting
from imagequeue.journal import read_labels, read_problems, read_results
from imagequeue.journal_writing import Journal
from producer_hand import CommandLine, Settle
from test_sources import a_tar

Ingest = Callable[..., Result]


class Hand:
    """A worker's hand that settles whatever is pending in the run; images with `bad` in their id are errors."""

    def __init__(self, connection: redis.Redis, settle: Settle) -> None:
        self._connection, self._settle = connection, settle
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.most_pending = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.005):
            ids = [id_.decode() for id_ in self._connection.hkeys(contract.pending_key("run"))]
            self.most_pending = max(self.most_pending, len(ids))
            for id_ in ids:
                bad = "bad" in id_
                self._settle(id_, Status.ERROR if bad else Status.OK, collection="run", dead=bad)


@pytest.fixture
def hand(connection: redis.Redis, settle: Settle) -> Iterator[Hand]:
    ours = Hand(connection, settle)
    yield ours
    ours.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def ingest(imagequeue: CommandLine, path: Path) -> Ingest:
    return lambda *arguments, **more: imagequeue("ingest", "--run", "run", "--journal", str(path), *arguments, **more)


def a_list(folder: Path, *ids: str) -> str:
    file = folder / "list.csv"
    file.write_text("id,path,label\n" + "".join(f"{id_},/{id_}.jpg,n{id_}\n" for id_ in ids))
    return str(file)


def totals(connection: redis.Redis) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in connection.hgetall(contract.totals_key("run")).items()}


# --- one start ------------------------------------------------------------------------------------------------------


def test_everything_listed_is_submitted_and_collected(
    ingest: Ingest, hand: Hand, path: Path, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    answer = ingest(a_list(tmp_path, "a", "b", "c"))
    assert (answer.exit_code, answer.stdout) == (0, "3 ok, 0 errors in run\n")
    assert answer.stderr == f"`imagequeue results --journal {path}` prints them\n"
    assert [(one.id, one.status) for one in read_results(path)] == [(id_, Status.OK) for id_ in "abc"]
    assert list(read_labels(path)) == [("a", "na"), ("b", "nb"), ("c", "nc")]
    assert totals(connection) == {"accepted": 3, "ok": 3}


def test_results_go_from_redis_when_they_are_in_the_journal(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    ingest(a_list(tmp_path, *map(str, range(300))), "--limit-in-flight", "40")
    assert connection.hlen(contract.results_key("run")) == 0
    assert connection.xlen(contract.completed_key("run")) == 1  # the one that a reader goes on from


def test_results_are_kept_in_redis_if_asked(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    ingest(a_list(tmp_path, "a", "b"), "--keep-results")
    assert connection.hlen(contract.results_key("run")) == 2


def test_no_more_than_the_limit_is_in_flight(ingest: Ingest, hand: Hand, tmp_path: Path) -> None:
    hand.start()
    assert ingest(a_list(tmp_path, *map(str, range(300))), "--limit-in-flight", "30").exit_code == 0
    assert 0 < hand.most_pending <= 30


def test_the_summary_as_json(ingest: Ingest, hand: Hand, path: Path, tmp_path: Path) -> None:
    hand.start()
    answer = ingest(a_list(tmp_path, "a", "bad", "a"), "--json")
    summary = json.loads(answer.stdout)
    assert summary.pop("seconds") > 0
    assert summary == {
        "run": "run", "journal": str(path), "complete": True, "images": 2, "ok": 1, "error": 1, "duplicates": 1,
        "problems": 0, "again": 0,
    }  # fmt: skip


def test_options_reach_the_request(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis, settle: Settle
) -> None:
    hand.start()
    ingest(a_list(tmp_path, "a"), "--priority", "low", "--model", "m", "--top-k", "3", "--expires-in", "9")
    job = connection.lindex(contract.queue_key("classify-low"), 0).decode()
    request = contract.decode_job(connection.hget(contract.job_key(job), "data"))
    assert (request.model, request.top_k, request.expires_in) == ("m", 3, 9)


def test_an_empty_source_is_said_so(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    answer = ingest(str(tmp_path / "photos"))
    assert (answer.exit_code, "nothing to submit" in answer.stderr) == (0, True)


def test_standard_input_is_a_list(ingest: Ingest, hand: Hand, path: Path) -> None:
    hand.start()
    assert ingest("-", typed=b"x:a\nx:b\n").exit_code == 0
    assert [one.id for one in read_results(path)] == [contract.image_id("x:a"), contract.image_id("x:b")]


# --- bad input ------------------------------------------------------------------------------------------------------


def test_errors_are_exit_code_1_and_can_be_requeued(
    ingest: Ingest, hand: Hand, path: Path, tmp_path: Path, producer: Producer, settle: Settle
) -> None:
    hand.start()
    answer = ingest(a_list(tmp_path, "a", "bad"))
    assert (answer.exit_code, answer.stdout) == (1, "1 ok, 1 errors in run\n")
    hand.stop()
    assert producer.requeue(collection="run").accepted == 1
    settle("bad", Status.OK, collection="run")
    assert ingest().exit_code == 0
    assert {one.status for one in read_results(path)} == {Status.OK}


def test_all_that_was_requeued_is_collected_however_much_it_is(
    ingest: Ingest, hand: Hand, path: Path, tmp_path: Path, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "RESULTS_PER_STEP", 2)
    ids = [f"bad{number}" for number in range(9)]
    hand.start()
    assert ingest(a_list(tmp_path, *ids)).exit_code == 1
    hand.stop()
    assert producer.requeue(collection="run").accepted == 9
    producer.cancel_collection("run")
    ingest()
    assert {one.error.code for one in read_results(path) if one.error} == {"cancelled"}


def test_unreadable_lines_are_told_and_the_rest_goes_on(ingest: Ingest, hand: Hand, path: Path, tmp_path: Path) -> None:
    hand.start()
    file = a_list(tmp_path, "a", "b", "a\x07", "c", "")
    answer = ingest(file)
    assert (answer.exit_code, answer.stdout) == (1, "3 ok, 0 errors in run, 2 could not be submitted\n")
    for place in (f"{file}:4: ", f"{file}:6: "):
        assert place in answer.stderr
    assert [place for place, _ in read_problems(path)] == [f"{file}:4", f"{file}:6"]


def test_of_many_bad_lines_the_first_are_printed_and_the_others_counted(
    ingest: Ingest, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.jsonl").write_text("nothing\n" * 30)
    lines = ingest(str(tmp_path / "list.jsonl")).stderr.splitlines()
    assert len([line for line in lines if "no JSON" in line]) == 20
    assert any(line.startswith("… and 10 more") for line in lines)
    assert len(list(read_problems(path))) == 30


def test_the_same_id_for_another_reference_is_told(ingest: Ingest, hand: Hand, path: Path, tmp_path: Path) -> None:
    hand.start()
    (tmp_path / "list.csv").write_text("id,path\na,/first.jpg\na,/second.jpg\na,/first.jpg\n")
    answer = ingest(str(tmp_path / "list.csv"))
    assert (answer.exit_code, answer.stdout) == (
        1,
        "1 ok, 0 errors in run, 1 named more than once, 1 could not be submitted\n",
    )
    assert "list.csv:3: id 'a' has named another reference before" in answer.stderr


def test_strict_stops_before_the_first_bad_line_and_goes_on_when_it_is_mended(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    answer = ingest(a_list(tmp_path, "a", "b\x07", "c"), "--strict")
    assert (answer.exit_code, "list.csv:3: " in answer.stderr) == (2, True)
    assert "imagequeue ingest --run run" in answer.stderr
    a_list(tmp_path, "a", "b", "c")
    assert ingest("--strict").exit_code == 0
    assert totals(connection) == {"accepted": 3, "ok": 3}


@pytest.mark.parametrize("ids", [("a", "a")])
def test_strict_stops_at_duplicates(ids: tuple[str, ...], ingest: Ingest, hand: Hand, tmp_path: Path) -> None:
    hand.start()
    answer = ingest(a_list(tmp_path, *ids), "--strict")
    assert (answer.exit_code, "named before" in answer.stderr) == (2, True)


def test_a_blob_that_is_not_in_redis_is_a_problem(
    ingest: Ingest, hand: Hand, producer: Producer, tmp_path: Path
) -> None:
    hand.start()
    there = producer.upload(b"bytes")
    (tmp_path / "list.txt").write_text(f"blob:{'0' * 64}\n{there}\nblob:{'1' * 64}\nx:c\n")
    answer = ingest(str(tmp_path / "list.txt"))
    assert (answer.exit_code, answer.stdout) == (1, "2 ok, 0 errors in run, 2 could not be submitted\n")


def test_a_blob_without_a_checksum_is_a_problem(ingest: Ingest, hand: Hand, path: Path, tmp_path: Path) -> None:
    hand.start()
    (tmp_path / "list.txt").write_text("x:a\nblob:cat\nx:c\n")
    answer = ingest(str(tmp_path / "list.txt"))
    assert (answer.exit_code, answer.stdout) == (1, "2 ok, 0 errors in run, 1 could not be submitted\n")
    assert [place for place, _ in read_problems(path)] == [f"{tmp_path}/list.txt:2"]


def test_a_source_that_breaks_off_is_tried_again_from_there(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    archive = Path(a_tar(tmp_path))
    whole = archive.read_bytes()
    archive.write_bytes(whole[: 3 * 512] + b"\xff" * 512 + whole[4 * 512 :])
    answer = ingest(str(archive), a_list(tmp_path, "x"))
    assert (answer.exit_code, answer.stdout) == (1, "2 ok, 0 errors in run\n")
    assert "broke off after" in answer.stderr
    archive.write_bytes(whole)
    assert ingest().stdout == "5 ok, 0 errors in run\n"
    assert totals(connection)["accepted"] == 5


@pytest.mark.parametrize("arguments", [("/nowhere/cat.jpg",), ("/nowhere/*.tar",), ()])
def test_nothing_to_begin_with_is_exit_code_2(arguments: tuple[str, ...], ingest: Ingest) -> None:
    assert ingest(*arguments).exit_code == 2


def test_redis_that_is_not_there_is_exit_code_2_and_leaves_no_journal(
    ingest: Ingest, path: Path, tmp_path: Path
) -> None:
    answer = ingest(a_list(tmp_path, "a"), IMAGEQUEUE_REDIS_URL="redis://127.0.0.1:1/0")
    assert (answer.exit_code, path.exists()) == (2, False)


# --- the next start -------------------------------------------------------------------------------------------------


def test_a_run_that_is_complete_does_nothing_more(
    ingest: Ingest, hand: Hand, tmp_path: Path, connection: redis.Redis
) -> None:
    hand.start()
    file = a_list(tmp_path, "a")
    for arguments in ((file,), (file,), ()):
        assert ingest(*arguments).stdout == "1 ok, 0 errors in run\n"
    assert totals(connection) == {"accepted": 1, "ok": 1}


def test_a_complete_run_needs_its_sources_no_more(ingest: Ingest, hand: Hand, tmp_path: Path) -> None:
    hand.start()
    file = a_list(tmp_path, "a")
    ingest(file)
    Path(file).unlink()
    assert ingest().exit_code == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("/other.jpg",), "sources was"),
        (("--top-k", "3"), "top-k was 5, now 3"),
        (("--label-column", "x"), "label-column was the default, now x"),
    ],
)
def test_a_run_keeps_what_it_was_begun_with(
    more: tuple[str, ...], told: str, ingest: Ingest, hand: Hand, tmp_path: Path
) -> None:
    hand.start()
    ingest(a_list(tmp_path, "a"))
    answer = ingest(*more)
    assert (answer.exit_code, told in answer.stderr) == (2, True)


def test_a_run_goes_on_with_relative_sources_from_another_folder(
    ingest: Ingest, hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    hand.start()
    a_list(tmp_path, "a")
    monkeypatch.chdir(tmp_path)
    ingest("list.csv")
    monkeypatch.chdir("/")
    assert ingest(str(tmp_path / "list.csv")).exit_code == 0


def test_a_run_keeps_its_base_from_another_folder(
    ingest: Ingest, hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    hand.start()
    (tmp_path / "list.txt").write_text("a.jpg\n")
    monkeypatch.chdir(tmp_path)
    ingest("list.txt", "--base", "photos")
    monkeypatch.chdir("/")
    assert ingest("--base", str(tmp_path / "photos")).exit_code == 0
    (one,) = read_results(path)
    assert one.id == contract.image_id(f"{tmp_path}/photos/a.jpg")


def test_the_journal_has_a_place_of_its_own(imagequeue: CommandLine, hand: Hand, tmp_path: Path) -> None:
    hand.start()
    answer = imagequeue("ingest", a_list(tmp_path, "a"), "--run", "run", XDG_STATE_HOME=str(tmp_path))
    assert (answer.exit_code, answer.stderr) == (0, "`imagequeue results --run run` prints them\n")
    assert (tmp_path / "imagequeue" / "runs" / "run.sqlite").is_file()


def test_a_run_of_another_process_is_left_alone(ingest: Ingest, path: Path, tmp_path: Path) -> None:
    with Journal(path):
        answer = ingest(a_list(tmp_path, "a"))
    assert (answer.exit_code, "in use by another process" in answer.stderr) == (2, True)


def test_what_has_a_result_already_is_collected_and_not_classified_again(
    ingest: Ingest, hand: Hand, producer: Producer, settle: Settle, connection: redis.Redis, tmp_path: Path
) -> None:
    producer.submit_many([Image("a", "/a.jpg"), Image("b", "/b.jpg")], collection="run")
    settle("a", collection="run")
    hand.start()
    assert ingest(a_list(tmp_path, "a", "b", "c")).stdout == "3 ok, 0 errors in run\n"
    assert totals(connection) == {"accepted": 3, "ok": 3}


def test_what_is_not_of_the_run_stays_in_redis(
    ingest: Ingest, hand: Hand, producer: Producer, connection: redis.Redis, tmp_path: Path
) -> None:
    producer.submit_many([Image("stranger", "/s.jpg")], collection="run")
    hand.start()
    assert ingest(a_list(tmp_path, "a")).stdout == "1 ok, 0 errors in run\n"
    producer.wait(["stranger"], collection="run", timeout=60)
    assert connection.hkeys(contract.results_key("run")) == [b"stranger"]


def test_standard_input_cannot_be_gone_on_with_unless_it_is_piped_again(
    ingest: Ingest, hand: Hand, connection: redis.Redis
) -> None:
    hand.start()
    assert ingest("-", "--strict", typed=b"x:a\nx:\xff\nx:c\n").exit_code == 2
    answer = ingest()
    assert (answer.exit_code, "pipe the same lines" in answer.stderr) == (2, True)
    assert ingest("-", typed=b"x:a\nx:b\nx:c\n").stdout == "3 ok, 0 errors in run\n"


# --- interruptions --------------------------------------------------------------------------------------------------


def sent(path: Path) -> int | None:
    """How many images the journal says that Redis has accepted."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as journal:
        row = journal.execute("SELECT value FROM facts WHERE name = 'sent'").fetchone()
        return row and row[0]
    return None


@pytest.fixture
def interrupted(
    redis_url: str, connection: redis.Redis, program_environment: dict[str, str], path: Path, tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """A run of three images that got a Ctrl-C while all were pending."""
    command = [sys.executable, "-c", "from imagequeue.cli import main; main()", "ingest", a_list(tmp_path, *"abc")]
    command += ["--run", "run", "--journal", str(path), "--redis-url", redis_url]
    process = subprocess.Popen(command, env=program_environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (path.exists() and sent(path) == 3):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, "", told)


def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(
    interrupted: subprocess.CompletedProcess[str], path: Path
) -> None:
    assert (interrupted.returncode, interrupted.stderr) == (
        130,
        f"stopped with 0 results and 3 images in flight; `imagequeue ingest --run run --journal {path}` goes on\n",
    )


def test_an_interrupted_run_goes_on_without_a_duplicate(
    interrupted: object, ingest: Ingest, hand: Hand, connection: redis.Redis
) -> None:
    hand.start()
    assert ingest().stdout == "3 ok, 0 errors in run\n"
    assert totals(connection) == {"accepted": 3, "ok": 3}


def test_what_redis_has_lost_is_submitted_again_and_told(
    interrupted: object, ingest: Ingest, hand: Hand, connection: redis.Redis, settle: Settle
) -> None:
    settle("a", collection="run")
    connection.flushdb()
    hand.start()
    answer = ingest()
    assert (answer.exit_code, "were lost from Redis" in answer.stderr) == (0, True)
    assert answer.stdout == "3 ok, 0 errors in run, 3 submitted again\n"


def test_what_redis_loses_while_a_run_goes_on_is_submitted_again(
    ingest: Ingest, hand: Hand, connection: redis.Redis, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "STALL_SECONDS", 0.5)

    def lose() -> None:
        while not (path.exists() and sent(path) == 3):
            time.sleep(0.01)
        connection.flushdb()
        hand.start()

    loser = threading.Thread(target=lose)
    loser.start()
    answer = ingest(a_list(tmp_path, "a", "b", "c"))
    loser.join()
    assert (answer.exit_code, answer.stdout) == (0, "3 ok, 0 errors in run, 3 submitted again\n")


def test_a_result_that_has_expired_before_it_was_collected_is_asked_for_again(
    interrupted: object, ingest: Ingest, hand: Hand, connection: redis.Redis, settle: Settle
) -> None:
    settle("a", collection="run")
    connection.hdel(contract.results_key("run"), "a")
    hand.start()
    assert ingest().stdout == "3 ok, 0 errors in run, 1 submitted again\n"


def test_who_may_not_remove_results_leaves_them_to_expire(
    ingest: Ingest, hand: Hand, connection: redis.Redis, redis_url: str, tmp_path: Path
) -> None:
    connection.acl_setuser("reader", enabled=True, nopass=True, keys="*", commands=["+@all", "-xtrim"])
    try:
        url = redis_url.replace("://", "://reader:any@", 1)
        hand.start()
        answer = ingest(a_list(tmp_path, "a"), IMAGEQUEUE_REDIS_URL=url)
    finally:
        connection.acl_deluser("reader")
    assert (answer.exit_code, "results stay in Redis until they expire" in answer.stderr) == (0, True)
    assert connection.hlen(contract.results_key("run")) == 1
