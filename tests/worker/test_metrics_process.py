"""/metrics of running workers: one page, whatever happens to the processes behind it."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

import redis
from prometheus_client.parser import text_string_to_metric_families

from imagequeue import Image, Producer, Status
from imagequeue.contract import job_key
from worker_process import StartWorker, WorkerProcess, until


def page(worker: WorkerProcess, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def series(worker: WorkerProcess) -> dict[str, float]:
    """Every series of the page, by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(page(worker))
        for sample in family.samples
    }


def total(worker: WorkerProcess, name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(value for key, value in series(worker).items() if key.startswith(f"{name}["))


def must_not_go_back(found: dict[str, float]) -> dict[str, float]:
    return {
        name: value for name, value in found.items() if re.match(r"imagequeue_\w+_(total|count|sum|bucket)\[", name)
    }


def test_counters_go_on_where_a_killed_process_stopped(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    worker = start_worker("--processes", "2").wait_until_ready(2)
    before: dict[str, float] = {}
    for round_ in range(3):
        ids = producer.submit_many([Image(f"{round_}-{n}", str(pictures[n % 3])) for n in range(12)], chunk=2).ids
        results = producer.wait(ids, timeout=60)
        assert {result.status for result in results.values()} == {Status.OK}
        until(lambda round_=round_: total(worker, "imagequeue_images_total") == 12 * (round_ + 1), worker)
        now = must_not_go_back(series(worker))
        assert [name for name, value in before.items() if now.get(name, -1) < value] == []
        before = now
        child = worker.children()[0]
        os.kill(child, signal.SIGKILL)
        until(lambda child=child: child not in worker.children() or not Path(f"/proc/{child}").exists(), worker)
        until(lambda: total(worker, "imagequeue_processes_ready") == 2, worker)
        worker.connection.srem("rq:workers", *gone(worker.connection))
    assert total(worker, "imagequeue_process_restarts_total") == 3
    assert total(worker, "imagequeue_images_in_flight") == 0
    for stage in ("queue", "fetch", "decode", "infer", "finish", "image"):
        assert total(worker, f"imagequeue_{stage}_seconds_count") == 36, stage


def gone(connection: redis.Redis) -> list[bytes]:
    keys = connection.smembers("rq:workers")
    return [key for key in keys if not Path(f"/proc/{int(connection.hget(key, 'pid'))}").exists()] or [b"none"]


def test_a_job_that_a_dead_process_held_counts_as_recovered(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker("--lease-seconds", "600")
    producer.submit(f"fault:gate:{gate}:{pictures[0]}", id="held")
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    os.kill(worker.children()[0], signal.SIGKILL)
    gate.touch()
    producer.wait(["held"], timeout=60)
    recovered = series(worker)["imagequeue_recovered_jobs_total[('reason', 'dead_child_requeued')]"]
    assert recovered == 1


def test_a_lost_lease_is_counted_once(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], tmp_path: Path
) -> None:
    """Its loss is met twice: by the next heartbeat, and by the finish that comes too late."""
    gate = tmp_path / "gate"
    worker = start_worker()
    job = str(producer.submit(f"fault:gate:{gate}:{pictures[0]}", id="x").job)
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    until(lambda: connection.zcard("rq:wip:classify") == 1, worker)
    connection.delete("rq:wip:classify")
    until(lambda: total(worker, "imagequeue_leases_lost_total") == 1, worker)
    gate.touch()
    until(lambda: connection.hget(job_key(job), "status") == b"finished", worker)  # reconcile gave it to somebody again
    assert producer.wait(["x"], timeout=60)["x"].status is Status.OK
    assert total(worker, "imagequeue_leases_lost_total") == 1
    assert "the answer was dropped" not in worker.log_text()


def test_the_page_says_what_runs_and_what_redis_has(start_worker: StartWorker) -> None:
    worker = start_worker()
    until(lambda: total(worker, "imagequeue_processes_ready") == 1, worker)
    found = series(worker)
    assert found["imagequeue_redis_up[]"] == 1
    assert found["imagequeue_processes[]"] == 1
    assert found["imagequeue_redis_memory_used_bytes[]"] > 0
    assert total(worker, "imagequeue_model_info") == 1
    assert total(worker, "imagequeue_build_info") == 1
    assert total(worker, "imagequeue_redis_info") == 1


def test_a_supervisor_that_is_killed_leaves_no_metric_files(start_worker: StartWorker) -> None:
    worker = start_worker()
    folders = metric_folders(worker.process.pid)
    assert folders
    worker.process.kill()
    worker.process.wait()
    until(lambda: not any(folder.exists() for folder in folders))


def metric_folders(supervisor: int) -> set[Path]:
    """Where a supervisor's metric files are."""
    maps = Path(f"/proc/{supervisor}/maps").read_text()
    return {Path(path).parent for path in re.findall(r"\S+/imagequeue-metrics-\S+\.db", maps)}
