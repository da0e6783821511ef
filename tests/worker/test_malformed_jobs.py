"""Jobs that other hands have written: one typed result per image, nothing of it is run, and the queue goes on."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagequeue import Image, Producer
from imagequeue.contract import PAUSED_KEY, job_key, new_job_id, queue_key
from worker_process import StartWorker, WorkerProcess, until

QUEUE = "classify"
FIELDS = (
    "status", "origin", "created_at", "enqueued_at", "description", "timeout", "result_ttl", "failure_ttl",
    "retries_left", "collection", "model", "images", "ids", "submitted_at", "queued_at", "attempts", "losses",
    "retries", "expires_at", "data", "success_callback_name", "failure_callback_name", "stopped_callback_name",
    "webhooks", "dependency_ids", "meta", "serializer", "worker_name", "group_id",
)  # fmt: skip
HOOKS = ("success_callback_name", "failure_callback_name", "stopped_callback_name", "webhooks")
# What a job may end as; `ok` where the field does not matter to us.
CODES = {
    "ok", "malformed_request", "forbidden", "unsupported_version", "worker_lost", "cancelled", "expired",
    "unknown_model",
}  # fmt: skip


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (77,)


VALUES: list[bytes] = [
    b"", b"abc", b"-1", b"0", b"1e999", b"-1e999", b"nan", b"1e18", b"99999999999999999999", b"1.5", b"\xff\x00\n|",
    b"[]", b"{}", b"null", pickle.dumps(Bomb()), b"a" * 5000, b"os.abort", b'["os.abort",null,[],{}]',
]  # fmt: skip


@pytest.fixture
def worker(start_worker: StartWorker) -> WorkerProcess:
    return start_worker("--isolation-seconds", "5")


def accept(producer: Producer, connection: redis.Redis, pictures: list[Path], count: int) -> dict[str, str]:
    """Image id -> its job, of images that are accepted and that nobody takes yet."""
    connection.sadd(PAUSED_KEY, QUEUE)
    ids = [new_job_id() for _ in range(count)]
    for id_ in ids:
        producer.submit(pictures[0], id=id_)
    return {id_: connection.hget("imagequeue:pending:default", id_).decode().partition("|")[2] for id_ in ids}


def let_go(producer: Producer, connection: redis.Redis, pictures: list[Path], ids: list[str]) -> dict[str, str]:
    """How each image ended, with a good one behind them."""
    producer.submit(pictures[1], id=(good := new_job_id()))
    connection.srem(PAUSED_KEY, QUEUE)
    results = producer.wait([*ids, good], timeout=110)
    assert results[good].error is None
    return {id_: result.error.code if result.error else "ok" for id_, result in results.items()}


def check_quiet(worker: WorkerProcess, producer: Producer, connection: redis.Redis, before: list[int]) -> None:
    """Nothing is left over, and no process had to die for it."""
    until(lambda: connection.llen(queue_key(QUEUE)) == connection.zcard(f"rq:wip:{QUEUE}") == 0, worker)
    progress = producer.progress()
    assert progress.pending == 0
    assert progress.accepted == progress.ok + progress.error
    assert worker.children() == before
    for complaint in ("refused", "Traceback", "took back", "defect"):
        assert complaint not in worker.log_text()


@pytest.fixture
def before(worker: WorkerProcess) -> list[int]:
    return worker.children()


@pytest.mark.timeout(300)
def test_every_field_may_be_wrong_in_every_way(
    worker: WorkerProcess, before: list[int], producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    cases = [(field, value) for field in FIELDS for value in VALUES]
    jobs = accept(producer, connection, pictures, len(cases))
    for (field, value), job in zip(cases, jobs.values(), strict=True):
        connection.hset(job_key(job), field, value)
    ended = let_go(producer, connection, pictures, list(jobs))
    codes = {case: ended[id_] for case, id_ in zip(cases, jobs, strict=True)}
    assert {case: code for case, code in codes.items() if code not in CODES} == {}
    assert {codes[field, value] for field in HOOKS for value in VALUES if value} <= {"forbidden"}
    check_quiet(worker, producer, connection, before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["string", "list", "set", "zset", "gone", "empty"])
def test_a_job_may_be_of_any_type(
    worker: WorkerProcess, before: list[int], producer: Producer, connection: redis.Redis, pictures: list[Path],
    kind: str,
) -> None:  # fmt: skip
    jobs = accept(producer, connection, pictures, 1)
    (key,) = (job_key(job) for job in jobs.values())
    connection.delete(key)
    match kind:
        case "string":
            connection.set(key, "x")
        case "list":
            connection.rpush(key, "x")
        case "set":
            connection.sadd(key, "x")
        case "zset":
            connection.zadd(key, {"x": 1})
        case "empty":
            connection.hset(key, "x", "x")
    (code,) = (code for id_, code in let_go(producer, connection, pictures, list(jobs)).items() if id_ in jobs)
    assert code in {"worker_lost", "cancelled"}
    check_quiet(worker, producer, connection, before)


def test_strange_entries_of_the_list_are_passed_over(
    worker: WorkerProcess, before: list[int], producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    connection.rpush(queue_key(QUEUE), b"", b"\x00\xff", b"../../x", b"a" * 10_000, b"rq:job:x", pickle.dumps(Bomb()))
    let_go(producer, connection, pictures, [])
    check_quiet(worker, producer, connection, before)


request = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.timeout(600)
def test_any_data_ends_as_a_typed_dead_letter(
    worker: WorkerProcess, before: list[int], producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    task = "imagequeue_worker.tasks.classify"
    image = st.fixed_dictionaries({}, optional={"id": request, "ref": request, "more": request})
    fields = st.fixed_dictionaries(
        {}, optional={
            "version": request, "collection": request, "model": request, "top_k": request, "expires_in": request,
            "images": st.lists(image, max_size=3) | request, "more": request,
        },
    )  # fmt: skip
    call = st.tuples(
        st.just(task) | request, st.none() | request, st.just([]) | request,
        st.fixed_dictionaries({"request": fields | request}) | request,
    ).map(list)  # fmt: skip
    data = st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), call | request)

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(data, min_size=20, max_size=20))
    def some(texts: list[bytes]) -> None:
        jobs = accept(producer, connection, pictures, len(texts))
        for text, job in zip(texts, jobs.values(), strict=True):
            connection.hset(job_key(job), "data", text)
        ended = let_go(producer, connection, pictures, list(jobs))
        assert {ended[id_] for id_ in jobs} <= {"malformed_request", "forbidden", "unsupported_version"}
        for job in jobs.values():
            assert connection.zscore(f"rq:failed:{QUEUE}", job) is not None

    some()
    check_quiet(worker, producer, connection, before)


def test_images_of_one_job_may_be_somebody_elses(
    worker: WorkerProcess, producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    connection.sadd(PAUSED_KEY, QUEUE)
    submission = producer.submit_many([Image(str(n), str(pictures[n])) for n in range(3)], chunk=3)
    connection.hset("imagequeue:pending:default", "1", f"{QUEUE}|iq-nobody")
    ended = let_go(producer, connection, pictures, list(submission.ids))
    assert [ended[str(n)] for n in range(3)] == ["ok", "cancelled", "ok"]


def test_a_collection_that_is_damaged_while_its_job_runs_ends_no_process(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    images = [Image(gate.name, f"fault:gate:{gate}:{pictures[0]}") for gate in (early, late)]
    producer.submit_many(images, chunk=2)
    worker = start_worker()
    before = worker.children()
    until(lambda: all(Path(f"{gate}.waiting").exists() for gate in (early, late)), worker)
    connection.set("imagequeue:results:default", "somebody else's")
    early.touch()
    until(lambda: "publish was refused" in worker.log_text(), worker)
    connection.delete("imagequeue:results:default")
    late.touch()
    results = producer.wait(["early", "late"], timeout=60)
    assert [result.attempt for result in results.values()] == [1, 1]
    assert worker.children() == before


def test_a_damaged_queue_stops_no_other_and_is_said_once(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    connection.set(queue_key("classify"), "somebody else's")
    worker = start_worker()
    for id_ in ("first", "second"):
        producer.submit(pictures[0], id=id_, priority="low")
        assert producer.wait([id_], timeout=60)[id_].error is None
    assert worker.log_text().count("are passed over") == 1
    connection.delete(queue_key("classify"))
    producer.submit(pictures[0], id="x")
    assert producer.wait(["x"], timeout=60)["x"].error is None
    assert "refused" not in worker.log_text()
