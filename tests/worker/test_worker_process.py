"""The worker as users run it: a real process on a real Redis, real pictures, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import redis
from rq.suspension import resume, suspend

from imagequeue import Image, Producer, Status
from imagequeue.contract import QUEUES, job_key, new_job_id, pending_key, queue_key
from imagequeue_worker.images import DEFAULT_LIMITS
from imagequeue_worker.local import classify_references
from imagequeue_worker.nets import load_nets
from imagequeue_worker.processor_time import tree_seconds
from imagequeue_worker.settings import NetChoice
from worker_process import StartWorker, environment, running_worker, until


def gate_ref(gate: Path, picture: Path) -> str:
    """A picture that is fetched when the gate is opened."""
    return f"fault:gate:{gate}:{picture}"


def waits_at(gate: Path) -> bool:
    return Path(f"{gate}.waiting").exists()


# --- results ---------------------------------------------------------------------------------------------------------


def test_pictures_get_the_classes_that_the_net_gives(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], net_folder: Path
) -> None:
    start_worker()
    refs = [str(path) for path in pictures]
    results = producer.wait(producer.submit_many(refs, top_k=3).ids, timeout=60)
    expected = classify_references(
        refs, load_nets([NetChoice(net_folder)], "auto"), top_k=3, threads=1, limits=DEFAULT_LIMITS
    )
    assert [(result.ref, result.classes) for result in results.values()] == [(one.ref, one.classes) for one in expected]


def test_a_result_says_who_made_it_and_when(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    start_worker()
    receipt = producer.submit(pictures[0], id="coffee")
    result = producer.wait(["coffee"], timeout=60)["coffee"]
    assert (result.id, result.job, result.attempt, result.status) == ("coffee", receipt.job, 1, Status.OK)
    assert result.model is not None
    assert len(result.model.sha256) == 64
    assert result.submitted_at <= result.finished_at
    assert result.seconds.decode > 0
    assert result.seconds.infer > 0


def test_bad_references_get_their_codes_and_harm_no_neighbour(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(pictures[2].read_bytes()[:5000])
    bad = {
        "missing": (str(tmp_path / "missing.jpg"), "not_found"),
        "empty": (str(tmp_path / "empty.jpg"), "unsupported_format"),
        "text": (str(tmp_path / "text.jpg"), "unsupported_format"),
        "cut": (str(tmp_path / "cut.jpg"), "corrupt"),
        "outside": ("/etc/passwd", "forbidden"),
        "kind": ("gopher://host/picture", "unsupported_reference"),
        "on demand": ("fault:raise:fetch_timeout", "fetch_timeout"),
        "defect": ("fault:defect", "internal"),
        "directory": (str(tmp_path), None),
    }
    start_worker("--retry-seconds", "0.1")
    images = [Image(name, ref) for name, (ref, _) in bad.items()] + [Image("good", str(pictures[0]))]
    results = producer.wait(producer.submit_many(images).ids, timeout=60)
    codes = {name: result.error.code for name, result in results.items() if result.error}
    assert codes == {name: code or codes["directory"] for name, (_, code) in bad.items()}
    assert results["good"].status is Status.OK


def test_an_unknown_model_is_an_error_that_names_the_known_ones(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], net_folder: Path
) -> None:
    start_worker()
    producer.submit(pictures[0], id="x", model="resnet")
    error = producer.wait(["x"], timeout=60)["x"].error
    assert error is not None
    assert error.code == "unknown_model"
    assert net_folder.name in error.message


def test_nets_run_side_by_side_and_requests_choose_by_name(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], net_folder: Path
) -> None:
    start_worker("--net", f"other={net_folder}")
    producer.submit(pictures[0], id="first")
    producer.submit(pictures[0], id="second", model="other")
    results = producer.wait(["first", "second"], timeout=60)
    models = [result.model.name for result in results.values() if result.model]
    assert models == [net_folder.name, "other"]
    assert results["first"].classes == results["second"].classes


def test_paths_are_forbidden_without_an_image_root(
    producer: Producer, redis_url: str, net_folder: Path, tmp_path: Path, pictures: list[Path], connection: redis.Redis
) -> None:
    with running_worker(redis_url, connection, net_folder, tmp_path / "log") as worker:
        worker.wait_until_ready()
        producer.submit(pictures[0], id="x")
        error = producer.wait(["x"], timeout=60)["x"].error
    assert error is not None
    assert error.code == "forbidden"
    assert "--image-root" in error.message


# --- bad jobs --------------------------------------------------------------------------------------------------------


def test_malformed_jobs_become_typed_dead_letters_and_the_queue_goes_on(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    broken = producer.submit(pictures[0], id="broken").job
    assert broken is not None
    connection.hset(job_key(broken), "data", b"\x00 not a job")
    stranger = new_job_id()
    connection.hset(
        job_key(stranger), mapping={"status": "queued", "origin": "classify", "data": "[]", "timeout": "abc"}
    )
    connection.rpush(queue_key("classify"), stranger)
    connection.rpush(queue_key("classify"), "no-such-job")
    producer.submit(pictures[0], id="good")
    start_worker()
    results = producer.wait(["broken", "good"], timeout=60)
    assert results["broken"].error is not None
    assert results["broken"].error.code == "malformed_request"
    assert results["good"].status is Status.OK
    until(lambda: connection.zscore("rq:failed:classify", stranger))
    assert connection.zscore("rq:failed:classify", broken)
    assert connection.llen(queue_key("classify")) == 0


def test_a_job_that_names_another_function_is_forbidden(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, tmp_path: Path, pictures: list[Path]
) -> None:
    job = producer.submit(pictures[0], id="x").job
    assert job is not None
    proof = tmp_path / "proof"
    connection.hset(job_key(job), "data", f'["os.mkdir",null,["{proof}"],{{}}]')
    start_worker()
    error = producer.wait(["x"], timeout=60)["x"].error
    assert error is not None
    assert error.code in {"forbidden", "malformed_request"}
    assert not proof.exists()


def test_a_worker_that_only_waits_for_late_pictures_sleeps(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    gates = [tmp_path / f"gate {number}" for number in range(6)]
    ids = [producer.submit(gate_ref(gate, pictures[0]), id=gate.name).id for gate in gates]
    worker = start_worker("--batch-images", "1", "--processes", "1")
    until(lambda: all(waits_at(gate) for gate in gates[:4]), worker)  # late ones of four batches: no room for more
    time.sleep(1.5)  # longer than a worker sleeps that may not take
    before = tree_seconds(worker.process.pid)
    time.sleep(1.5)
    after = tree_seconds(worker.process.pid)
    assert before is not None
    assert after is not None
    assert after - before < 0.5  # of the processor, however busy it is
    for gate in gates:
        gate.touch()
    assert len(producer.wait(ids, timeout=60)) == 6


# --- signals ---------------------------------------------------------------------------------------------------------


def test_sigterm_finishes_what_is_in_flight_and_puts_the_rest_back_in_order(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    producer.submit(gate_ref(gate, pictures[0]), id="in flight")
    rest = [producer.submit(pictures[1], id=f"rest {number}").job for number in range(3)]
    worker = start_worker("--batch-images", "1")
    until(lambda: waits_at(gate), worker)
    until(lambda: connection.llen(queue_key("classify")) == 2, worker)  # one is being prepared
    worker.process.send_signal(signal.SIGTERM)
    gate.touch()
    assert worker.process.wait(60) == 0
    assert producer.result("in flight") is not None
    assert [job.decode() for job in connection.lrange(queue_key("classify"), 0, -1)] == rest
    assert connection.hget(job_key(str(rest[0])), "attempts") == b"0"
    assert connection.zcard("rq:wip:classify") == 0


def test_ctrl_c_drains_and_says_so_with_130(start_worker: StartWorker) -> None:
    worker = start_worker()
    assert worker.stop(signal.SIGINT) == 130
    assert worker.children() == []


def test_a_metrics_port_that_is_taken_is_one_clear_line_and_exit_code_2(start_worker: StartWorker) -> None:
    first = start_worker()
    second = start_worker("--metrics-port", str(first.metrics_port), ready=False)
    assert second.process.wait(60) == 2
    assert "--metrics-port" in second.log_text()
    assert "Traceback" not in second.log_text()


def test_sigterm_ends_an_idle_worker_at_once_and_it_leaves_rq(
    start_worker: StartWorker, connection: redis.Redis
) -> None:
    worker = start_worker()
    assert worker.stop() == 0
    assert worker.children() == []


def test_grace_over_puts_back_and_leaves(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "never"
    job = producer.submit(gate_ref(gate, pictures[0]), id="stuck").job
    worker = start_worker("--grace", "0.5")
    until(lambda: waits_at(gate), worker)
    worker.stop()
    assert connection.lrange(queue_key("classify"), 0, -1) == [str(job).encode()]
    assert producer.result("stuck") is None


def test_a_killed_worker_process_is_replaced_and_its_images_are_classified(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    producer.submit(gate_ref(gate, pictures[0]), id="x")
    worker = start_worker()
    until(lambda: waits_at(gate), worker)
    (killed,) = worker.children()
    os.kill(killed, signal.SIGKILL)
    gate.touch()
    result = producer.wait(["x"], timeout=60)["x"]
    assert (result.status, result.attempt) == (Status.OK, 2)
    assert producer.progress().accepted == producer.progress().ok == 1


def test_worker_processes_end_when_their_supervisor_is_killed(start_worker: StartWorker) -> None:
    worker = start_worker()
    (child,) = worker.children()
    worker.stop(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists())


def test_without_their_supervisor_they_finish_what_is_in_flight(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    producer.submit(f"fault:gate:{gate}:{pictures[0]}", id="x")
    worker = start_worker("--grace", "600")
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    (child,) = worker.children()
    worker.stop(signal.SIGKILL)
    gate.touch()
    until(lambda: not Path(f"/proc/{child}").exists())
    assert (producer.wait(["x"], timeout=60)["x"].status, producer.progress().pending) == (Status.OK, 0)


def test_one_that_is_wedged_ends_too_when_its_supervisor_is_killed(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis
) -> None:
    job = producer.submit("fault:wedge", id="x").job
    worker = start_worker("--grace", "1", "--stall-timeout", "600")
    until(lambda: "wedged" in worker.log_text(), worker)
    (child,) = worker.children()
    worker.stop(signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists())
    assert connection.lrange(queue_key("classify"), 0, -1) == [str(job).encode()]
    assert connection.hget(job_key(str(job)), "attempts") == b"0"


@pytest.mark.parametrize("max_wait_ms", ["0", "200"])
def test_an_image_that_kills_workers_ends_as_worker_lost_alone(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], max_wait_ms: str
) -> None:
    start_worker("--losses-max", "2", "--max-wait-ms", max_wait_ms)
    producer.submit("fault:kill", id="poison")
    producer.submit(pictures[0], id="innocent")
    results = producer.wait(["poison", "innocent"], timeout=60)
    assert results["poison"].error is not None
    assert results["poison"].error.code == "worker_lost"
    assert results["innocent"].status is Status.OK


def test_a_wedged_process_ends_itself_and_its_job_goes_to_the_next(
    start_worker: StartWorker, producer: Producer
) -> None:
    start_worker("--stall-timeout", "1", "--isolation-seconds", "1")
    producer.submit("fault:hang", id="wedged")
    error = producer.wait(["wedged"], timeout=60)["wedged"].error
    assert error is not None
    assert error.code == "worker_lost"


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_no_redis_is_one_clear_line_and_exit_code_2(net_folder: Path) -> None:
    command = [sys.executable, "-m", "imagequeue_worker.cli", "run", "--net", str(net_folder)]
    done = subprocess.run(
        [*command, "--redis-url", "redis://:secret@127.0.0.1:1/0"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert "no Redis at redis://:***@127.0.0.1:1/0" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_outlives_a_restart_of_redis(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    from imagequeue.connection import connect
    from imagequeue_worker.embedded_redis import EmbeddedRedis

    with (
        EmbeddedRedis(tmp_path / "redis", durable=True) as server,
        connect(server.url, resend=True) as connection,
        Producer(server.url) as producer,
        running_worker(server.url, connection, net_folder, tmp_path / "log", roots=[pictures[0].parent]) as worker,
    ):
        worker.wait_until_ready()
        producer.submit(pictures[0], id="before")
        producer.wait(["before"], timeout=60)
        server.restart()
        producer.submit(pictures[0], id="after")
        assert producer.wait(["after"], timeout=60)["after"].status is Status.OK
        assert worker.stop() == 0


# --- RQ's tools ------------------------------------------------------------------------------------------------------


def test_suspended_workers_take_nothing_until_resumed(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    suspend(connection)
    start_worker()
    producer.submit(pictures[0], id="x")
    with pytest.raises(Exception, match="no result"):
        producer.wait(["x"], timeout=0.5)
    resume(connection)
    assert producer.wait(["x"], timeout=60)["x"].status is Status.OK


def test_rqs_shutdown_command_drains_a_worker(start_worker: StartWorker, connection: redis.Redis) -> None:
    from rq.command import send_shutdown_command

    worker = start_worker("--processes", "1")
    (before,) = worker.children()
    (name,) = (key.decode().removeprefix("rq:worker:") for key in connection.smembers("rq:workers"))
    until(lambda: connection.pubsub_numsub(f"rq:pubsub:{name}")[0][1], worker)
    send_shutdown_command(connection, name)
    until(lambda: worker.children() not in ([], [before]), worker)  # the supervisor has put another in its place


@pytest.mark.parametrize(
    "worker_class", ["imagequeue_worker.BatchWorker", "rq.worker.SimpleWorker"], ids=["ours", "stock"]
)
def test_rqs_own_command_runs_our_jobs(
    worker_class: str, producer: Producer, redis_url: str, pictures: list[Path], net_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    images = [Image("good", str(pictures[0])), Image("bad", str(tmp_path / "text.jpg"))]
    producer.submit_many(images)
    roots = os.pathsep.join([str(pictures[0].parent), str(tmp_path)])
    ours = environment() | {"IMAGEQUEUE_NET": str(net_folder), "IMAGEQUEUE_IMAGE_ROOT": roots}
    command = [str(Path(sys.executable).with_name("rq")), "worker", "--burst", "-S", "json", "--url", redis_url]
    done = subprocess.run(
        [*command, "--worker-class", worker_class, *QUEUES], env=ours, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    results = producer.wait(["good", "bad"], timeout=1)
    assert results["good"].status is Status.OK
    assert results["bad"].error is not None
    assert results["bad"].error.code == "unsupported_format"


def test_a_settled_job_leaves_nothing_pending(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path]
) -> None:
    start_worker()
    submission = producer.submit_many([Image(str(number), str(pictures[number % 3])) for number in range(20)], chunk=7)
    producer.wait(submission.ids, timeout=60)
    assert connection.hlen(pending_key("default")) == 0
    until(lambda: connection.zcard("rq:wip:classify") == 0)
    assert not connection.keys("rq:execution*")


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_tell_of_every_image_on_one_page(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    worker = start_worker("--processes", "2")
    worker.wait_until_ready(2)
    refs = [Image(str(number), str(pictures[number % 3])) for number in range(12)]
    producer.wait(producer.submit_many([*refs, Image("bad", "/nowhere")], chunk=1).ids, timeout=60)

    def page() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def total(status: str) -> float:
        lines = [line for line in page().splitlines() if line.startswith("imagequeue_images_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines if f'status="{status}"' in line)

    until(lambda: (total("ok"), total("error")) == (12, 1), worker)
    assert 'code="forbidden"' in page()
    assert 'imagequeue_backlog_images{queue="classify"} 0.0' in page()
    assert "process_resident_memory_bytes" in page()
