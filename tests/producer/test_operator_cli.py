"""The operator's commands: what they do, print and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from imagequeue import Image, Producer, Status, contract
from producer_hand import CommandLine, settler


def submit(producer: Producer, *ids: str, **options: object) -> None:
    producer.submit_many([Image(id_, f"/pictures/{id_}.jpg") for id_ in ids], **options)


def die(connection: redis.Redis, *ids: str) -> None:
    """End images in an error, with their requests kept, as a worker does."""
    for id_ in ids:
        settler(connection)(id_, Status.ERROR, dead=True)


# --- cancel -------------------------------------------------------------------------------------------------


def test_named_images_are_cancelled(producer: Producer, imagequeue: CommandLine) -> None:
    submit(producer, "a", "b")
    answer = imagequeue("cancel", "a")
    assert (answer.exit_code, answer.stdout) == (0, "1 cancelled\n")
    assert producer.progress().pending == 1


def test_an_id_that_is_not_pending_is_exit_code_1(producer: Producer, imagequeue: CommandLine) -> None:
    submit(producer, "a")
    answer = imagequeue("cancel", "a", "nobody")
    assert (answer.exit_code, answer.stdout) == (1, "1 cancelled, 1 not pending in default\n")


def test_a_job_is_cancelled(producer: Producer, imagequeue: CommandLine) -> None:
    job = producer.submit("/a", collection="holidays").job
    assert json.loads(imagequeue("cancel", "--job", job or "", "--json").stdout) == {"cancelled": 1, "not_pending": 0}


def test_a_collection_is_cancelled(producer: Producer, imagequeue: CommandLine) -> None:
    submit(producer, "a", "b", collection="holidays")
    assert imagequeue("cancel", "--all", "--collection", "holidays").stdout == "2 cancelled\n"


@pytest.mark.parametrize("arguments", [(), ("a", "--all"), ("--all", "--job", "iq-1"), ("a", "--job", "iq-1")])
def test_what_to_cancel_is_named_once(producer: Producer, imagequeue: CommandLine, arguments: tuple[str, ...]) -> None:
    submit(producer, "a")
    assert imagequeue("cancel", *arguments).exit_code == 2
    assert producer.progress().pending == 1


def test_cancelled_results_live_as_long_as_told(producer: Producer, imagequeue: CommandLine) -> None:
    submit(producer, "a")
    assert imagequeue("cancel", "a", "--result-ttl", "0").exit_code == 2


# --- dead letters -------------------------------------------------------------------------------------------


def test_dead_letters_are_printed(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    submit(producer, "b", "a")
    die(connection, "a", "b")
    header, first, second = imagequeue("dead-letters").stdout.splitlines()
    assert header.split() == ["id", "picture", "error", "attempt"]
    assert first.split()[:3] == ["a", "/pictures/a.jpg", "not_found:"]
    assert second.split()[0] == "b"


def test_dead_letters_as_json_are_a_line_each(
    producer: Producer, connection: redis.Redis, imagequeue: CommandLine
) -> None:
    submit(producer, "a")
    die(connection, "a")
    (line,) = imagequeue("dead-letters", "--json", "--code", "not_found").stdout.splitlines()
    letter = json.loads(line)
    assert letter.pop("finished_at") > 0
    assert letter == {
        "id": "a", "ref": "/pictures/a.jpg", "code": "not_found", "message": "nothing is there", "attempt": 0,
        "collection": "default",
    }  # fmt: skip
    assert imagequeue("dead-letters", "--json", "--code", "corrupt").stdout == ""


def test_a_code_that_does_not_exist_is_wrong_usage(imagequeue: CommandLine) -> None:
    assert imagequeue("dead-letters", "--code", "not_fund").exit_code == 2


def test_dead_letters_are_requeued(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    submit(producer, "a", "b")
    die(connection, "a", "b")
    assert imagequeue("requeue", "a", "--priority", "high").stdout == "1 requeued\n"
    assert connection.llen(contract.queue_key("classify-high")) == 1
    answer = json.loads(imagequeue("requeue", "--code", "not_found", "--json").stdout)
    assert answer == {"accepted": 1, "left": 0, "collection": "default"}


def test_a_full_queue_stops_requeueing_with_exit_code_1(
    producer: Producer, connection: redis.Redis, redis_url: str, imagequeue: CommandLine
) -> None:
    submit(producer, "a")
    die(connection, "a")
    connection.hset(contract.WAITING_KEY, "classify", 10**6)
    answer = imagequeue("requeue", "--timeout", "0")
    assert (answer.exit_code, "has no room" in answer.stderr) == (1, True)
    assert [letter.id for letter in producer.dead_letters()] == ["a"]


def test_dead_letters_are_discarded(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    submit(producer, "a", "b")
    die(connection, "a", "b")
    assert imagequeue("discard", "a").stdout == "1 discarded\n"
    assert json.loads(imagequeue("discard", "--json").stdout) == {"discarded": 1}
    assert imagequeue("dead-letters").stdout == ""


# --- drop, pause, resume ------------------------------------------------------------------------------------


def test_a_finished_collection_is_dropped(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    submit(producer, "a")
    die(connection, "a")
    assert imagequeue("drop", "default").stdout == "default is gone, with 1 results\n"
    assert json.loads(imagequeue("drop", "default", "--json").stdout) == {"collection": "default", "results": 0}


def test_a_busy_collection_is_kept_with_exit_code_1(producer: Producer, imagequeue: CommandLine) -> None:
    submit(producer, "a")
    answer = imagequeue("drop", "default")
    assert (answer.exit_code, "imagequeue cancel --all --collection default" in answer.stderr) == (1, True)
    assert producer.progress().pending == 1


def test_a_queue_is_paused_and_resumed(producer: Producer, imagequeue: CommandLine) -> None:
    assert imagequeue("pause", "classify").stdout == "classify is paused\n"
    assert imagequeue("pause", "classify").stdout == "classify is paused, as it was\n"
    assert [queue.name for queue in producer.status().queues if queue.paused] == ["classify"]
    answer = json.loads(imagequeue("resume", "classify", "--json").stdout)
    assert answer == {"queue": "classify", "paused": False, "changed": True}
    assert not any(queue.paused for queue in producer.status().queues)


def test_a_queue_that_nobody_knows_is_not_paused(connection: redis.Redis, imagequeue: CommandLine) -> None:
    answer = imagequeue("pause", "clasify")
    assert (answer.exit_code, "classify-low" in answer.stderr) == (2, True)
    assert connection.exists(contract.PAUSED_KEY) == 0


def test_a_queue_of_somebody_else_that_rq_knows_is_paused(connection: redis.Redis, imagequeue: CommandLine) -> None:
    connection.sadd(f"{contract.RQ_KEY_PREFIX}:queues", contract.queue_key("own"))
    assert imagequeue("pause", "own").exit_code == 0


# --- submit -------------------------------------------------------------------------------------------------


def test_pictures_are_resubmitted(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    imagequeue("submit", "x:a")
    settler(connection)(contract.image_id("x:a"))
    assert imagequeue("submit", "x:a").stdout == "0 accepted, 1 known already, in default\n"
    assert imagequeue("submit", "x:a", "--resubmit").stdout == "1 accepted, 0 known already, in default\n"


@contextmanager
def appendfsync(connection: redis.Redis, value: str) -> Iterator[None]:
    """The server syncs so for a while."""
    before = connection.config_get("appendfsync")["appendfsync"]
    connection.config_set("appendfsync", value)
    try:
        yield
    finally:
        connection.config_set("appendfsync", before)


def test_a_durable_submission_that_cannot_be_is_exit_code_2_with_the_remedy(
    producer: Producer, connection: redis.Redis, imagequeue: CommandLine
) -> None:
    with appendfsync(connection, "no"):
        answer = imagequeue("submit", "x:a", "--durable")
    assert (answer.exit_code, "set `appendfsync always`" in answer.stderr) == (2, True)
    assert producer.progress().accepted == 0


def test_a_durable_submission_is_accepted(producer: Producer, connection: redis.Redis, imagequeue: CommandLine) -> None:
    with appendfsync(connection, "always"):
        answer = imagequeue("submit", "x:a", "--durable")
    assert (answer.exit_code, answer.stdout) == (0, "1 accepted, 0 known already, in default\n")


def test_replicas_without_durable_are_wrong_usage(imagequeue: CommandLine) -> None:
    assert imagequeue("submit", "x:a", "--replicas", "1").exit_code == 2
