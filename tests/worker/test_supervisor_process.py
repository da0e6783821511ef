"""The supervisor and its worker processes: what ends, what begins again, and who is told. Real signals."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import redis
from rq.command import send_stop_job_command
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import Image, Producer, Status
from imagequeue.contract import job_key, queue_key
from worker_process import StartWorker, until


def gate_ref(gate: Path, picture: Path) -> str:
    """A picture that is fetched when the gate is opened."""
    return f"fault:gate:{gate}:{picture}"


def waits_at(gate: Path) -> bool:
    return Path(f"{gate}.waiting").exists()


def queued(connection: redis.Redis) -> list[str]:
    return [job.decode() for job in connection.lrange(queue_key("classify"), 0, -1)]


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_second_ctrl_c_puts_back_and_leaves(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "never"
    jobs = [producer.submit(gate_ref(gate, pictures[0]), id=str(number)).job for number in range(3)]
    connection.hset(job_key(str(jobs[0])), "losses", 1)  # it runs alone, and is waited for
    worker = start_worker("--grace", "600", "--isolation-seconds", "600")
    until(lambda: waits_at(gate), worker)
    worker.process.send_signal(signal.SIGINT)
    time.sleep(1.2)  # one that comes within a second is the same wish: a terminal tells the whole group
    assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(60) == 130
    assert queued(connection) == jobs
    assert [connection.hget(job_key(str(job)), "attempts") for job in jobs] == [b"0"] * 3
    assert connection.zcard("rq:wip:classify") == 0


def test_two_signals_at_once_are_one(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    producer.submit(gate_ref(gate, pictures[0]), id="x")
    worker = start_worker("--grace", "600")
    until(lambda: waits_at(gate), worker)
    worker.process.send_signal(signal.SIGINT)
    worker.process.send_signal(signal.SIGINT)
    gate.touch()
    assert worker.process.wait(60) == 130
    assert "grace period over" not in worker.log_text()


# --- replacements ----------------------------------------------------------------------------------------------------


def test_what_a_dead_process_held_is_back_before_its_lease_ends(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker("--lease-seconds", "600")
    images = [Image("held", gate_ref(gate, pictures[0])), Image("neighbour", str(pictures[1]))]
    submission = producer.submit_many(images, chunk=1)
    until(lambda: waits_at(gate), worker)
    (killed,) = worker.children()
    os.kill(killed, signal.SIGKILL)
    gate.touch()
    results = producer.wait(submission.ids, timeout=60)
    assert {result.status for result in results.values()} == {Status.OK}
    assert "took back a job of a dead child" in worker.log_text()


def test_a_process_that_cannot_begin_is_tried_again_more_and_more_slowly(start_worker: StartWorker) -> None:
    worker = start_worker()
    for _ in range(3):
        until(lambda: worker.children(), worker)
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
        until(lambda child=child: child not in worker.children() or not Path(f"/proc/{child}").exists(), worker)
        until(lambda child=child: [one for one in worker.children() if one != child], worker)
        worker.connection.srem("rq:workers", *dead_workers(worker.connection))
    text = worker.log_text()
    assert text.count("worker process ended") == 3
    waits = [float(line.rpartition("restart_in=")[2].split()[0]) for line in text.splitlines() if "restart_in=" in line]
    assert waits == sorted(waits)
    assert max(waits) <= 5.0


def dead_workers(connection: redis.Redis) -> list[bytes]:
    """Those that RQ still lists though their processes are gone."""
    keys = connection.smembers("rq:workers")
    return [key for key in keys if not Path(f"/proc/{int(connection.hget(key, 'pid'))}").exists()] or [b"none"]


def test_a_process_that_has_grown_is_replaced_between_batches(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    worker = start_worker("--max-memory", "1M", "--batch-images", "1")
    before = worker.children()
    submission = producer.submit_many([Image(str(n), str(pictures[n])) for n in range(3)], chunk=1)
    results = producer.wait(submission.ids, timeout=60)
    assert [(result.status, result.attempt) for result in results.values()] == [(Status.OK, 1)] * 3
    until(lambda: worker.children() not in (before, []), worker)
    assert "above --max-memory" in worker.log_text()
    assert "worker process ended" not in worker.log_text()


def test_a_frozen_process_loses_its_job_and_its_answer_is_dropped_when_it_wakes(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    frozen = start_worker()
    producer.submit(gate_ref(gate, pictures[0]), id="x")
    until(lambda: waits_at(gate), frozen)
    (child,) = frozen.children()
    os.kill(child, signal.SIGSTOP)
    start_worker()
    gate.touch()
    result = producer.wait(["x"], timeout=60)["x"]
    os.kill(child, signal.SIGCONT)
    until(lambda: "lease" in frozen.log_text(), frozen)
    assert (result.status, result.attempt) == (Status.OK, 2)
    assert producer.result("x") == result
    assert producer.progress().ok == 1


# --- RQ's commands ---------------------------------------------------------------------------------------------------


def test_rqs_stop_job_command_ends_its_images_as_cancelled_and_no_others(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    stopped = str(producer.submit(gate_ref(gate, pictures[0]), id="stopped").job)
    producer.submit(gate_ref(gate, pictures[1]), id="goes on")
    worker = start_worker()
    until(lambda: connection.hget(job_key(stopped), "status") == b"started" and waits_at(gate), worker)
    send_stop_job_command(connection, stopped, serializer=JSONSerializer)
    error = producer.wait(["stopped"], timeout=60)["stopped"].error
    gate.touch()
    assert error is not None
    assert error.code == "cancelled"
    assert producer.wait(["goes on"], timeout=60)["goes on"].status is Status.OK
    assert Job.fetch(stopped, connection=connection, serializer=JSONSerializer).is_stopped
    assert "lease lost" not in worker.log_text()


def test_commands_that_make_no_sense_leave_the_listener_listening(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis
) -> None:
    worker = start_worker()
    (before,) = worker.children()
    (key,) = connection.smembers("rq:workers")
    channel = f"rq:pubsub:{key.decode().removeprefix('rq:worker:')}"
    for nonsense in (b"\x80\x04.", b"[]", b"null", b'{"command": "kill-horse"}', b'{"command": 7}', b'{"job_id": []}'):
        connection.publish(channel, nonsense)
    connection.publish(channel, b'{"command": "stop-job", "job_id": {"a": 1}}')
    connection.publish(channel, b'{"command": "shutdown"}')
    until(lambda: worker.children() not in ([], [before]), worker)


def test_a_job_whose_hash_is_deleted_is_reported_as_cancelled(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis
) -> None:
    job = str(producer.submit("/x.jpg", id="x").job)
    connection.delete(queue_key("classify"), job_key(job))
    start_worker()
    error = producer.wait(["x"], timeout=60)["x"].error
    assert error is not None
    assert error.code == "cancelled"
