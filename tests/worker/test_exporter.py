"""`imagequeue-worker exporter`: everything in a Redis, of our queues and of other people's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry
from rq import Queue, Worker
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.suspension import suspend

from imagequeue import Image, Producer
from imagequeue.contract import QUEUES, ErrorCode, Failure, Outcome, Status, dead_key, queue_key
from imagequeue_worker.exporter_metrics import ExporterCollector
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.protocol import Protocol
from ports import free_port
from worker_process import environment, run_cli, until

RQ_STATUSES = {"queued", "started", "finished", "failed", "deferred", "scheduled", "canceled"}


@pytest.fixture
def exporter(connection: redis.Redis) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(ExporterCollector(connection, collections_max=2))
    return registry


@pytest.fixture
def protocol(connection: redis.Redis) -> Protocol:
    return Protocol(connection, "w1", QUEUES, lease_seconds=9.0, result_ttl=60)


def submit(producer: Producer, *ids: str, **options: str) -> None:
    producer.submit_many([Image(id_, f"/{id_}.jpg") for id_ in ids], chunk=1, **options)


def answer(job: TakenJob, code: ErrorCode | None) -> FinishedJob:
    failure = Failure(code.value, "no") if code else None
    status = Status.ERROR if code else Status.OK
    outcomes = [Outcome(id=id_, ref=f"/{id_}.jpg", status=status, error=failure) for id_ in job.ids]
    return FinishedJob(job, outcomes, job.request())


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


# --- our queues ------------------------------------------------------------------------------------------------------


def test_an_empty_redis_has_numbers_to_scale_on(exporter: CollectorRegistry) -> None:
    for queue in QUEUES:
        assert value(exporter, "imagequeue_backlog_images", queue=queue) == 0
        assert value(exporter, "imagequeue_backlog_seconds", queue=queue) == 0
        assert value(exporter, "imagequeue_queue_paused", queue=queue) == 0
    assert value(exporter, "imagequeue_redis_up") == 1
    assert value(exporter, "imagequeue_collections") == 0


def test_a_queue_tells_what_waits_what_is_held_and_what_is_overdue(
    exporter: CollectorRegistry, producer: Producer, protocol: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcde")
    held = protocol.take(2).jobs
    lease = held[0].lease
    connection.zadd("rq:wip:classify", {f"{lease.job}:{lease.execution}": 1.0}, xx=True)
    protocol.heartbeat([], worker_ttl=60, rate=1.5)
    producer.pause("classify-low")
    labels = {"queue": "classify"}
    assert value(exporter, "imagequeue_waiting_images", **labels) == 5
    assert value(exporter, "imagequeue_backlog_images", **labels) == 3
    assert value(exporter, "imagequeue_backlog_seconds", **labels) == 2.0
    assert value(exporter, "imagequeue_fleet_images_per_second") == 1.5
    assert value(exporter, "imagequeue_leases", state="held", **labels) == 1
    assert value(exporter, "imagequeue_leases", state="overdue", **labels) == 1
    assert value(exporter, "imagequeue_queue_paused", queue="classify-low") == 1
    assert value(exporter, "imagequeue_queue_paused", **labels) == 0
    assert (value(exporter, "imagequeue_oldest_image_age_seconds", **labels) or -1) >= 0


def test_collections_tell_their_totals_and_dead_letters(
    exporter: CollectorRegistry, producer: Producer, protocol: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcd", collection="holidays")
    first, second, third = protocol.take(3).jobs
    protocol.finish([answer(first, None), answer(second, None), answer(third, ErrorCode.CORRUPT)])
    labels = {"collection": "holidays"}
    assert value(exporter, "imagequeue_accepted_images_total", **labels) == 4
    assert value(exporter, "imagequeue_finished_images_total", status="ok", **labels) == 2
    assert value(exporter, "imagequeue_finished_images_total", status="error", **labels) == 1
    assert value(exporter, "imagequeue_pending_images", **labels) == 1
    assert value(exporter, "imagequeue_dead_letters", **labels) == connection.hlen(dead_key("holidays")) == 1


def test_many_collections_are_counted_and_the_first_ones_shown(exporter: CollectorRegistry, producer: Producer) -> None:
    for name in ("c", "a", "b"):
        submit(producer, "x", collection=name)
    assert value(exporter, "imagequeue_collections") == 3
    shown = [value(exporter, "imagequeue_pending_images", collection=name) for name in "abc"]
    assert shown == [1, 1, None]


def test_redis_tells_its_memory_and_its_file(exporter: CollectorRegistry, connection: redis.Redis) -> None:
    info = connection.info()
    assert (value(exporter, "imagequeue_redis_memory_used_bytes") or 0) > 100_000
    assert value(exporter, "imagequeue_redis_memory_max_bytes") == info["maxmemory"]
    assert value(exporter, "imagequeue_redis_aof_enabled") == info["aof_enabled"]
    assert value(exporter, "imagequeue_redis_evicted_keys_total") == info["evicted_keys"]
    assert (value(exporter, "imagequeue_redis_connected_clients") or 0) >= 1


# --- RQ's, of whatever application -----------------------------------------------------------------------------------


@pytest.fixture
def others(connection: redis.Redis) -> Queue:
    """Somebody else's queue."""
    return Queue("mail", connection=connection, serializer=JSONSerializer)


def jobs(exporter: CollectorRegistry, queue: str = "mail") -> dict[str, float | None]:
    return {status: value(exporter, "rq_jobs", queue=queue, status=status) for status in RQ_STATUSES}


def test_foreign_queues_tell_their_jobs_by_status(
    exporter: CollectorRegistry, others: Queue, connection: redis.Redis
) -> None:
    first = others.enqueue("mailer.send")
    others.enqueue("mailer.send")
    others.enqueue("mailer.send", depends_on=first)
    others.enqueue_in(timedelta(hours=1), "mailer.send")
    failed = Job.create("mailer.send", connection=connection, serializer=JSONSerializer, status=JobStatus.FAILED)
    FailedJobRegistry("mail", connection=connection, serializer=JSONSerializer).add(failed, ttl=60)
    expected = dict.fromkeys(RQ_STATUSES, 0) | {"queued": 2, "deferred": 1, "scheduled": 1, "failed": 1}
    assert jobs(exporter) == expected


def test_foreign_workers_run_jobs_and_are_told_by_state(
    exporter: CollectorRegistry, others: Queue, connection: redis.Redis
) -> None:
    others.enqueue("builtins.len", [1])
    worker = Worker([others], connection=connection, serializer=JSONSerializer)
    worker.register_birth()
    worker.set_state("busy")
    assert value(exporter, "rq_workers", state="busy") == 1
    assert value(exporter, "rq_queue_workers", queue="mail") == 1
    worker.set_state("idle")
    assert value(exporter, "rq_workers", state="idle") == 1
    worker.register_death()
    assert [value(exporter, "rq_workers", state=state) for state in ("busy", "idle")] == [0, 0]
    assert value(exporter, "rq_queue_workers", queue="mail") == 0


def test_the_oldest_job_is_the_one_at_the_head(
    exporter: CollectorRegistry, others: Queue, connection: redis.Redis
) -> None:
    assert others.enqueue("mailer.send").enqueued_at
    before = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    (head,) = connection.lrange(queue_key("mail"), 0, 0)
    connection.hset(f"rq:job:{head.decode()}", "enqueued_at", before)
    others.enqueue("mailer.send")
    assert 7200 <= (value(exporter, "rq_oldest_job_age_seconds", queue="mail") or 0) < 7300


def test_a_suspended_fleet_is_told(exporter: CollectorRegistry, connection: redis.Redis) -> None:
    assert value(exporter, "rq_suspended") == 0
    suspend(connection)
    assert value(exporter, "rq_suspended") == 1


def test_our_own_queues_are_rqs_queues_too(exporter: CollectorRegistry, producer: Producer, protocol: Protocol) -> None:
    submit(producer, *"abc")
    protocol.take(1)
    assert jobs(exporter, "classify") == dict.fromkeys(RQ_STATUSES, 0) | {"queued": 2, "started": 1}


def test_damaged_keys_of_one_queue_hide_no_others_numbers(
    exporter: CollectorRegistry, others: Queue, connection: redis.Redis
) -> None:
    others.enqueue("mailer.send")
    connection.sadd("rq:queues", "rq:queue:broken", b"rq:queue:\xff")
    connection.set("rq:queue:broken", "no list")
    connection.set("rq:failed:mail", "no set")
    connection.sadd("rq:workers", "rq:worker:broken")
    connection.set("rq:worker:broken", "no hash")
    assert jobs(exporter)["queued"] == 1
    assert jobs(exporter)["failed"] == 0
    assert jobs(exporter, "broken")["queued"] == 0


def test_reading_changes_nothing_in_redis(
    exporter: CollectorRegistry, others: Queue, producer: Producer, protocol: Protocol, connection: redis.Redis
) -> None:
    """RQ's own registries clean up whoever reads them: jobs of workers that are late would be failed."""
    others.enqueue("mailer.send")
    submit(producer, *"abc")
    (job,) = protocol.take(1).jobs
    connection.zadd("rq:wip:classify", {f"{job.lease.job}:{job.lease.execution}": 1.0}, xx=True)
    before = {key: connection.dump(key) for key in connection.scan_iter()}
    assert jobs(exporter)["queued"] == 1
    assert {key: connection.dump(key) for key in connection.scan_iter()} == before


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def running(redis_url: str, connection: redis.Redis, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    command = [sys.executable, "-m", "imagequeue_worker.cli", "exporter", "--redis-url", redis_url]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--exporter-port", str(port)], stderr=log, env=environment())
    yield process, port
    process.kill()
    process.wait()


def test_the_command_serves_its_pages_until_sigterm(running: tuple[subprocess.Popen[bytes], int]) -> None:
    import urllib.request

    process, port = running
    until(lambda: run_cli("probe", "ready", "--metrics-port", str(port)).returncode == 0)
    assert run_cli("probe", "live", "--metrics-port", str(port)).returncode == 0
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    assert 'imagequeue_backlog_seconds{queue="classify"} 0.0' in text
    assert "process_resident_memory_bytes" in text
    loaded = Path(f"/proc/{process.pid}/maps").read_text()
    assert "numpy" not in loaded  # neither a net nor what one needs
    process.terminate()
    assert process.wait(60) == 0


def test_a_redis_that_is_away_is_a_number_and_no_end() -> None:
    registry = CollectorRegistry()
    registry.register(ExporterCollector(redis.Redis(port=free_port()), collections_max=2))
    assert value(registry, "imagequeue_redis_up") == 0
    assert value(registry, "imagequeue_backlog_images", queue="classify") is None


def test_a_port_that_is_taken_is_one_line(running: tuple[subprocess.Popen[bytes], int]) -> None:
    _, port = running
    until(lambda: run_cli("probe", "live", "--metrics-port", str(port)).returncode == 0)
    done = run_cli("exporter", "--exporter-port", str(port))
    assert done.returncode == 2
    assert "--exporter-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_right_that_lacks_is_no_zero(connection: redis.Redis, redis_url: str) -> None:
    connection.execute_command("ACL", "SETUSER", "blind", "on", "nopass", "+@all", "~imagequeue:*")
    connection.sadd("rq:queues", "rq:queue:mail")
    try:
        with redis.Redis.from_url(redis_url, username="blind", password="x") as blind:
            registry = CollectorRegistry()
            registry.register(ExporterCollector(blind, collections_max=2))
            assert value(registry, "imagequeue_redis_up") == 0
            assert value(registry, "rq_jobs", queue="mail", status="queued") is None
    finally:
        connection.execute_command("ACL", "DELUSER", "blind")
