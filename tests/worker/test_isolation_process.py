"""Images that end processes: found alone, after two deaths of their own, and nobody else is harmed."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from imagequeue import Image, Producer, Result, Status
from imagequeue.contract import job_key, queue_key
from worker_process import StartWorker, until


def code_of(result: Result) -> str:
    return result.error.code if result.error else "ok"


@pytest.mark.parametrize("what", ["kill", "exit", "segfault", "memory"])
def test_among_63_good_ones_the_image_that_ends_processes_is_lost_alone(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], what: str
) -> None:
    start_worker("--batch-images", "64")
    images = [Image(f"good {number}", str(pictures[number % 3])) for number in range(63)]
    images.insert(40, Image("poison", f"fault:{what}"))
    results = producer.wait(producer.submit_many(images, chunk=64).ids, timeout=60)
    assert {id_ for id_, result in results.items() if code_of(result) != "ok"} == {"poison"}
    assert code_of(results["poison"]) == "worker_lost"
    assert producer.progress().accepted == producer.progress().ok + producer.progress().error == 64


def test_the_answer_of_a_lost_image_says_how_its_processes_ended(start_worker: StartWorker, producer: Producer) -> None:
    start_worker()
    producer.submit("fault:segfault", id="poison")
    error = producer.wait(["poison"], timeout=60)["poison"].error
    assert error is not None
    assert error.message.count("killed by SIGSEGV") == 2


def test_a_lost_image_can_be_asked_for_again(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis
) -> None:
    start_worker()
    producer.submit("fault:kill", id="poison")
    producer.wait(["poison"], timeout=60)
    assert b'"fault:kill"' in connection.hget("imagequeue:dead:default", "poison")


@pytest.mark.parametrize("what", ["hang", "spin"])
def test_a_decoder_that_never_returns_ends_its_image_only(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], what: str
) -> None:
    worker = start_worker("--stall-timeout", "1", "--isolation-seconds", "1")
    images = [Image("poison", f"fault:{what}"), *(Image(f"good {n}", str(pictures[n])) for n in range(3))]
    results = producer.wait(producer.submit_many(images, chunk=4).ids, timeout=100)
    assert {id_: code_of(result) for id_, result in results.items()} == {
        "poison": "worker_lost", "good 0": "ok", "good 1": "ok", "good 2": "ok",
    }  # fmt: skip
    assert results["poison"].error is not None
    assert "--isolation-seconds" in results["poison"].error.message
    assert worker.process.poll() is None


def test_a_job_that_was_lost_once_by_accident_ends_ok(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], connection: redis.Redis
) -> None:
    submission = producer.submit_many([Image(str(n), str(pictures[n])) for n in range(3)], chunk=3)
    (job,) = connection.lrange(queue_key("classify"), 0, -1)
    connection.hset(job_key(job.decode()), "losses", 1)
    worker = start_worker()
    results = producer.wait(submission.ids, timeout=60)
    assert [result.status for result in results.values()] == [Status.OK] * 3
    assert "its images run alone" in worker.log_text()
    until(lambda: connection.hget(job_key(job.decode()), "status") == b"finished")


def test_sigterm_puts_the_rest_of_an_isolated_job_back(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], connection: redis.Redis, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    images = [Image("first", f"fault:gate:{gate}:{pictures[0]}"), Image("second", str(pictures[1]))]
    producer.submit_many(images, chunk=2)
    (job,) = connection.lrange(queue_key("classify"), 0, -1)
    connection.hset(job_key(job.decode()), "losses", 1)
    worker = start_worker()
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    worker.process.terminate()
    until(lambda: "stopped" not in worker.log_text(), worker)
    gate.touch()
    assert worker.process.wait(60) == 0
    assert producer.result("first") is not None
    assert producer.result("second") is None
    assert connection.lrange(queue_key("classify"), 0, -1) == [job]
    assert connection.hget(job_key(job.decode()), "attempts") == b"0"


def test_no_process_of_a_worker_is_left_when_it_is_killed(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, tmp_path: Path
) -> None:
    gate = tmp_path / "never"
    producer.submit(f"fault:gate:{gate}:/", id="waits")
    (job,) = connection.lrange(queue_key("classify"), 0, -1)
    connection.hset(job_key(job.decode()), "losses", 1)
    worker = start_worker("--grace", "0.5")
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    family = descendants(worker.process.pid)
    assert len(family) == 4  # the metrics server, the worker, its isolation server, and the child
    worker.process.kill()
    worker.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def descendants(pid: int) -> list[int]:
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [each for child in children for each in (child, *descendants(child))]
