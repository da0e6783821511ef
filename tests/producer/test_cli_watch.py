"""`imagequeue wait`, `progress`, `status` and `completion`."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from imagequeue import Image, Producer, Status
from imagequeue.cli import cli
from imagequeue.reading import Progress
from imagequeue.status import CollectionState, QueueState, QueueStatus, WorkerState
from imagequeue.watching import duration, line_of, status_line
from producer_hand import CommandLine, Settle, settler, wait_for_command


@contextmanager
def settled_when(connection: redis.Redis, redis_url: str, command: str, *ids: str) -> Iterator[None]:
    """Settle images as soon as the server has run a command of this name, from a connection of its own."""
    with redis.Redis.from_url(redis_url) as hand, connection.monitor() as monitor:

        def work() -> None:
            settle = settler(hand)
            wait_for_command(monitor, command)
            for id_ in ids:
                settle(id_)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(30)


def test_waiting_for_ids_prints_their_results_as_they_come(
    producer: Producer, imagequeue: CommandLine, connection: redis.Redis, redis_url: str
) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "ab"])
    with settled_when(connection, redis_url, "HMGET", "a", "b"):
        answer = imagequeue("wait", "b", "a", "--json", "--timeout", "30")
    assert answer.exit_code == 0
    assert {json.loads(line)["id"] for line in answer.stdout.splitlines()} == {"a", "b"}


def test_waiting_for_a_collection_ends_when_nothing_is_pending(
    producer: Producer, imagequeue: CommandLine, connection: redis.Redis, redis_url: str
) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "ab"])
    with settled_when(connection, redis_url, "HLEN", "a", "b"):
        answer = imagequeue("wait", "--timeout", "30", "--interval", "0.1")
    assert (answer.exit_code, answer.stdout) == (0, "default: 2 of 2 done (100.0%), 2 ok, 0 error\n")


def test_waiting_for_an_error_is_exit_code_1(producer: Producer, imagequeue: CommandLine, settle: Settle) -> None:
    producer.submit("/x", id="a")
    settle("a", Status.ERROR)
    assert imagequeue("wait", "a").exit_code == 1
    assert imagequeue("wait").exit_code == 1


@pytest.mark.parametrize("arguments", [("a",), ()], ids=["ids", "collection"])
def test_waiting_in_vain_is_exit_code_1(
    producer: Producer, imagequeue: CommandLine, arguments: tuple[str, ...]
) -> None:
    producer.submit("/x", id="a")
    answer = imagequeue("wait", *arguments, "--timeout", "0.05")
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert "1 images" in answer.stderr


def test_waiting_for_a_collection_that_never_was_says_so(imagequeue: CommandLine) -> None:
    answer = imagequeue("wait", "--collection", "hollidays")
    assert (answer.exit_code, answer.stderr) == (0, "nothing was ever submitted to hollidays\n")


def test_progress_is_one_line(producer: Producer, imagequeue: CommandLine, settle: Settle) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "abc"])
    settle("a")
    assert imagequeue("progress").stdout == "default: 1 of 3 done (33.3%), 1 ok, 0 error, 2 pending\n"


def test_progress_that_is_watched_prints_a_line_at_every_change(
    producer: Producer, imagequeue: CommandLine, connection: redis.Redis, redis_url: str, settle: Settle
) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "ab"])
    settle("a")
    with settled_when(connection, redis_url, "HLEN", "b"):
        answer = imagequeue("progress", "--watch", "--interval", "0.1", "--json")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert lines[-1]["pending"] == 0
    assert all(line["accepted"] == line["pending"] + line["ok"] + line["error"] for line in lines)
    assert len({line["ok"] for line in lines}) == len(lines)


def test_status_is_one_line_and_tables_if_asked(producer: Producer, imagequeue: CommandLine) -> None:
    producer.submit_many(["/a", "/b"])
    producer.submit("/c", priority="high")
    (line,) = imagequeue("status").stdout.splitlines()
    assert line.startswith("3 waiting (classify-high 1, classify 2); no worker is alive")
    assert "accepted  pending" in imagequeue("status", "--full").stdout


def test_the_status_line_tells_rate_and_time_left() -> None:
    now = QueueStatus(
        queues=(QueueState("classify", 6_000, 10, paused=True),),
        collections=(CollectionState("holidays", 7_000, 6_000, 990, 10),),
        workers=(WorkerState("a", "busy", 15.0), WorkerState("b", "busy", 5.0)),
        images_per_second=20.0,
    )
    assert status_line(now) == (
        "6,000 waiting (classify 6,000); paused: classify; 2 workers, 20.0 images/s; 5 min left; "
        "1 collection: 990 ok, 10 error"
    )


def test_the_progress_line_tells_rate_and_time_left() -> None:
    line = line_of("c", Progress(accepted=1_000, pending=500, ok=499, error=1), 2.0)
    assert line == "c: 500 of 1,000 done (50.0%), 499 ok, 1 error, 500 pending, 2.0 images/s, 4 min left"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (1e6, "11.6 d")]
)
def test_durations_have_one_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("command", list(cli.commands))
def test_every_help_has_the_exit_codes(imagequeue: CommandLine, command: str) -> None:
    assert "Exit codes: 0 all is well; 1" in imagequeue(command, "--help").stdout
    assert "Exit codes: 0 all is well; 1" in imagequeue("--help").stdout


def test_bash_completes_commands_and_options(imagequeue: CommandLine, program_environment: dict[str, str]) -> None:
    script = imagequeue("completion", "bash").stdout
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    asked = {"_IMAGEQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": "imagequeue re", "COMP_CWORD": "1"}
    assert imagequeue_completes(program_environment | asked) == {"report", "requeue", "results", "resume"}


def imagequeue_completes(environment: dict[str, str]) -> set[str]:
    """What the installed program answers to a shell that asks."""
    import sys

    code = "import sys; sys.argv = ['imagequeue']; from imagequeue.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    return {line.partition(",")[2] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_their_scripts(imagequeue: CommandLine, shell: str) -> None:
    assert f"_IMAGEQUEUE_COMPLETE={shell}_complete" in imagequeue("completion", shell).stdout
