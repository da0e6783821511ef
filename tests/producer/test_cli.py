"""The command `imagequeue`: what it submits, prints and answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest
import redis

from imagequeue import Image, Producer, Status, contract
from imagequeue.cli import cli
from imagequeue.terminal import results_table
from producer_hand import CommandLine, Settle


def pending(client: redis.Redis, collection: str = "default") -> list[str]:
    """The references that jobs carry, in the order of the queues."""
    jobs = [job for queue in contract.QUEUES for job in client.lrange(contract.queue_key(queue), 0, -1)]
    requests = [contract.decode_job(client.hget(contract.job_key(job.decode()), "data")) for job in jobs]
    return [image.ref for request in requests if request.collection == collection for image in request.images]


def settle_all(connection: redis.Redis, settle: Settle, status: Status = Status.OK) -> None:
    for id_ in connection.hkeys(contract.pending_key("default")):
        settle(id_.decode(), status)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """b.jpg, a/d.PNG, a/c.webp and what is no picture."""
    (tmp_path / "a").mkdir()
    for name in ("b.jpg", "a/d.PNG", "a/c.webp", "notes.txt", "jpg"):
        (tmp_path / name).touch()
    return tmp_path


def test_a_file_is_submitted_by_its_absolute_path(
    imagequeue: CommandLine, connection: redis.Redis, pictures: Path, monkeypatch
) -> None:
    monkeypatch.chdir(pictures)
    assert imagequeue("submit", "b.jpg").exit_code == 0
    assert pending(connection) == [str(pictures / "b.jpg")]


def test_a_named_file_may_have_any_suffix(imagequeue: CommandLine, connection: redis.Redis, pictures: Path) -> None:
    imagequeue("submit", str(pictures / "notes.txt"))
    assert pending(connection) == [str(pictures / "notes.txt")]


def test_a_folder_is_searched_for_pictures_in_order(
    imagequeue: CommandLine, connection: redis.Redis, pictures: Path
) -> None:
    imagequeue("submit", str(pictures))
    assert pending(connection) == [str(pictures / name) for name in ("b.jpg", "a/c.webp", "a/d.PNG")]


def test_standard_input_has_a_reference_per_line(
    imagequeue: CommandLine, connection: redis.Redis, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    imagequeue("submit", "-", typed=b"/a.jpg\r\n\nb.jpg\nhttps://x/c.jpg\n\xff.jpg")
    names = ["/a.jpg", f"{tmp_path}/b.jpg", "https://x/c.jpg", f"file://{tmp_path}/%FF.jpg"]
    assert pending(connection) == names


@pytest.mark.parametrize("reference", ["https://x/a.jpg", "file:///a.jpg", "s3://bucket/a.jpg", "data:,"])
def test_a_reference_is_submitted_as_it_is(imagequeue: CommandLine, connection: redis.Redis, reference: str) -> None:
    imagequeue("submit", reference)
    assert pending(connection) == [reference]


def test_a_file_that_is_called_like_a_reference_is_a_file(
    imagequeue: CommandLine, connection: redis.Redis, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("holiday:1.jpg").touch()
    imagequeue("submit", "holiday:1.jpg")
    assert pending(connection) == [str(tmp_path / "holiday:1.jpg")]


def test_a_path_that_is_not_there_is_wrong_usage(imagequeue: CommandLine) -> None:
    answer = imagequeue("submit", "/nowhere/cat.jpg")
    assert (answer.exit_code, "/nowhere/cat.jpg" in answer.stderr) == (2, True)


def test_a_folder_without_pictures_is_said_so(imagequeue: CommandLine, tmp_path: Path) -> None:
    answer = imagequeue("submit", str(tmp_path))
    assert (answer.exit_code, answer.stderr) == (0, "nothing to submit: no pictures there\n")


def test_submitting_tells_how_many_were_new(imagequeue: CommandLine) -> None:
    imagequeue("submit", "x:a")
    assert imagequeue("submit", "x:a", "x:b").stdout == "1 accepted, 1 known already, in default\n"


def test_submitting_as_json_names_the_ids(imagequeue: CommandLine) -> None:
    answer = json.loads(imagequeue("submit", "x:a", "--json").stdout)
    ids = [contract.image_id("x:a")]
    assert answer == {"ids": ids, "accepted": 1, "known": 0, "collection": "default"}


def test_options_reach_the_request(imagequeue: CommandLine, connection: redis.Redis) -> None:
    options = "--collection c --priority high --model m --top-k 3 --expires-in 9"
    imagequeue("submit", "x:a", *options.split())
    job = connection.lindex(contract.queue_key("classify-high"), 0).decode()
    request = contract.decode_job(connection.hget(contract.job_key(job), "data"))
    assert (request.collection, request.model, request.top_k, request.expires_in) == ("c", "m", 3, 9)


def test_the_environment_is_an_option(imagequeue: CommandLine, connection: redis.Redis) -> None:
    imagequeue("submit", "x:a", IMAGEQUEUE_COLLECTION="holidays")
    assert pending(connection, "holidays") == ["x:a"]


def test_a_full_queue_has_its_own_exit_code(imagequeue: CommandLine) -> None:
    imagequeue("submit", "x:a")
    answer = imagequeue("submit", "x:b", "--depth-limit", "1", "--timeout", "0")
    assert (answer.exit_code, "classify holds 1 images" in answer.stderr) == (1, True)


def test_waiting_prints_a_table(imagequeue: CommandLine, connection: redis.Redis, settle: Settle) -> None:
    imagequeue("submit", "x:a")
    settle_all(connection, settle)
    answer = imagequeue("submit", "x:a", "--wait")
    header, row = answer.stdout.splitlines()
    assert header.split() == ["picture", "label", "probability", "ms"]
    assert "tabby, tabby cat" in row
    assert "75.0%" in row


def test_waiting_as_json_prints_a_result_per_line(
    imagequeue: CommandLine, connection: redis.Redis, settle: Settle
) -> None:
    imagequeue("submit", "x:a", "x:b")
    settle_all(connection, settle)
    answer = imagequeue("submit", "x:a", "x:b", "--wait", "--json")
    results = [contract.decode_result(line.encode()) for line in answer.stdout.splitlines()]
    assert sorted(result.id for result in results) == sorted(map(contract.image_id, ("x:a", "x:b")))


def test_an_image_that_ended_in_an_error_is_exit_code_1(
    imagequeue: CommandLine, connection: redis.Redis, settle: Settle
) -> None:
    imagequeue("submit", "x:a")
    settle_all(connection, settle, Status.ERROR)
    answer = imagequeue("submit", "x:a", "--wait")
    assert (answer.exit_code, "not_found: nothing is there" in answer.stdout) == (1, True)


def test_a_result_that_does_not_come_in_time_is_exit_code_1_after_those_that_came(
    imagequeue: CommandLine, connection: redis.Redis, settle: Settle
) -> None:
    imagequeue("submit", "x:a")
    settle_all(connection, settle)
    answer = imagequeue("submit", "x:a", "x:b", "--wait", "--timeout", "0.01")
    assert (answer.exit_code, "tabby" in answer.stdout) == (1, True)
    assert "1 images have no result" in answer.stderr


def test_results_of_a_collection_are_printed(producer: Producer, imagequeue: CommandLine, settle: Settle) -> None:
    producer.submit("/a.jpg", id="a")
    settle("a")
    assert "/pictures/a.jpg  tabby, tabby cat" in imagequeue("results").stdout


def test_results_of_ids_are_printed_in_their_order(producer: Producer, imagequeue: CommandLine, settle: Settle) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "abc"])
    for id_ in "abc":
        settle(id_)
    lines = imagequeue("results", "c", "a").stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["/pictures/c.jpg", "/pictures/a.jpg"]


def test_an_id_without_result_is_named_and_exit_code_1(imagequeue: CommandLine) -> None:
    answer = imagequeue("results", "nobody")
    assert (answer.exit_code, answer.stderr) == (1, "no result in default: nobody\n")


def test_an_empty_collection_prints_nothing(imagequeue: CommandLine) -> None:
    answer = imagequeue("results")
    assert (answer.exit_code, answer.stdout) == (0, "")


def test_redis_that_is_not_there_is_one_line_and_exit_code_2(imagequeue: CommandLine) -> None:
    answer = imagequeue("status", "--redis-url", "redis://:secret@127.0.0.1:1/0")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Error: no Redis at redis://:***@127.0.0.1:1/0")


def test_control_characters_never_reach_the_terminal(producer: Producer, settle: Settle) -> None:
    producer.submit("/a", id="a")
    settle("a")
    result = producer.wait(["a"])["a"]
    hostile = contract.Result(
        **{name: getattr(result, name) for name in contract.Result.__struct_fields__ if name != "ref"},
        ref="/\x1b[31m[red]\u202egpj.a",
    )
    cell = next(iter(results_table([hostile]).columns[0].cells))
    assert str(cell) == "/�[31m[red]�gpj.a"


COMMANDS = list(cli.commands.values())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_option_is_an_environment_variable_and_says_so(command: click.Command) -> None:
    text = command.get_help(click.Context(command, terminal_width=10_000))
    for option in command.params:
        if isinstance(option, click.Option):
            assert re.fullmatch(r"IMAGEQUEUE_[A-Z_]+", str(option.envvar)), option.name
            assert f"env var: {option.envvar}" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_help_has_an_example(command: click.Command) -> None:
    assert f"  imagequeue {command.name}" in command.get_help(click.Context(command))


def test_the_version_is_told(imagequeue: CommandLine) -> None:
    assert imagequeue("--version").stdout.startswith("imagequeue, version ")
