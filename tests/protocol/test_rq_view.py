"""What RQ and its tools see: jobs that we hold, and jobs that end as a stock worker would leave them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry
from rq import Queue, SimpleWorker, Worker
from rq.job import Dependency, Job
from rq.registry import (
    BaseRegistry,
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker

from imagequeue import Producer, contract
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.nets import LoadedNet, Nets
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from queue_state import LEASE_SECONDS, QUEUE, RESULT_TTL, RQ, answer, answer_failed, job_of, queued, submit

REGISTRIES: list[type[BaseRegistry]] = [
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
]


def fetch(connection: redis.Redis, job: str) -> Job:
    return Job.fetch(job, connection=connection, serializer=JSONSerializer)


def registries_of(connection: redis.Redis, job: str) -> list[str]:
    """The names of RQ's registries that list the job."""
    found = []
    for registry in REGISTRIES:
        ids = registry(QUEUE, connection=connection, serializer=JSONSerializer).get_job_ids(cleanup=False)
        if job in ids:
            found.append(registry.__name__)
    return found


# --- jobs that wait or are held -----------------------------------------------------------------------------


def test_a_job_that_waits_can_be_fetched(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, "a")
    job = fetch(connection, job_of(connection, "a"))
    assert (job.get_status(), job.func_name, job.origin) == ("queued", contract.TASK, QUEUE)


def test_a_job_that_was_put_back_can_be_fetched(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.put_back([job.lease])
    seen = fetch(connection, job.lease.job)
    assert (seen.get_status(), seen.started_at, seen.worker_name or None) == ("queued", None, None)


def test_a_held_job_can_be_fetched(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    seen = fetch(connection, job.lease.job)
    assert (seen.get_status(), seen.worker_name) == ("started", "w1")
    assert seen.started_at is not None


def test_the_queue_counts_what_waits(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    worker.take(1)
    assert Queue(QUEUE, connection=connection, serializer=JSONSerializer).count == 2


def test_rq_lists_our_queues(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, "a")
    submit(producer, "b", priority="low")
    names = {queue.name for queue in Queue.all(connection=connection, serializer=JSONSerializer)}
    assert names == {"classify", "classify-low"}


def test_held_jobs_are_started_in_rq(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    jobs = {job.lease.job for job in worker.take(64).jobs}
    registry = StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer)
    assert set(registry.get_job_ids()) == jobs


def test_a_worker_shows_all_the_jobs_that_it_holds(
    producer: Producer, worker: Protocol, registered: Worker, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    jobs = {job.lease.job for job in worker.take(64).jobs}
    (seen,) = BaseWorker.all(connection=connection, serializer=JSONSerializer)
    assert {execution.job_id for execution in seen.get_current_executions()} == jobs


def test_a_worker_that_has_finished_shows_none(
    producer: Producer, worker: Protocol, registered: Worker, connection: redis.Redis
) -> None:
    submit(producer, *"abc", chunk=1)
    worker.finish([answer(job) for job in worker.take(64).jobs])
    (seen,) = BaseWorker.all(connection=connection, serializer=JSONSerializer)
    assert seen.get_current_executions() == []


def test_rqs_tools_can_count_a_job_that_they_saved(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    job = fetch(connection, job_of(connection, "a"))
    job.meta["note"] = "seen"
    job.save()  # compresses the data
    (taken,) = worker.take(64).jobs
    assert (taken.ids, taken.request().images[0].id) == (("a",), "a")


def test_a_failed_job_that_rq_requeues_is_taken_again(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    worker.finish([answer_failed(job)])
    FailedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer).requeue(job.lease.job)
    (again,) = worker.take(64).jobs
    assert (again.lease.job, again.ids) == (job.lease.job, ())


def test_a_job_that_rq_cancels_leaves_its_queue(producer: Producer, connection: redis.Redis) -> None:
    submit(producer, "a")
    fetch(connection, job_of(connection, "a")).cancel()
    assert queued(connection) == []


# --- as a stock worker leaves it ----------------------------------------------------------------------------


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """RQ's workers install handlers and leave them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def prepare(connection: redis.Redis, producer: Producer, function: str, fields: dict[str, Any]) -> str:
    """A queued job of two images that a stock worker can run, with further fields in its hash; its id."""
    submit(producer, "a", "b")
    job = job_of(connection, "a")
    data = connection.hget(contract.job_key(job), "data")
    connection.hset(
        contract.job_key(job),
        mapping={"data": data.replace(contract.TASK.encode(), function.encode())} | fields,
    )
    connection.hdel(contract.job_key(job), "retries_left")
    return job


def run_stock(connection: redis.Redis, producer: Producer, function: str, fields: dict[str, Any]) -> str:
    job = prepare(connection, producer, function, fields)
    SimpleWorker([QUEUE], name="w1", connection=connection, serializer=JSONSerializer).work(burst=True)
    return job


def run_ours(connection: redis.Redis, producer: Producer, function: str, fields: dict[str, Any]) -> str:
    job = prepare(connection, producer, contract.TASK, fields)
    worker = Protocol(connection, "w1", [QUEUE], lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
    known = Worker([QUEUE], name="w1", connection=connection, serializer=JSONSerializer)
    known.register_birth()
    (taken,) = worker.take(64).jobs
    worker.finish([answer_failed(taken) if function == "stock_task.fail" else answer(taken)])
    known.register_death()
    return job


def seen_by_rq(connection: redis.Redis, job: str) -> dict[str, Any]:
    """All that RQ's classes tell about a finished job, without times of day, ids and tracebacks."""
    keys = {key.decode().replace(job, "<job>") for key in connection.scan_iter() if job.encode() in key}
    seen: dict[str, Any] = {"keys": keys, "registries": registries_of(connection, job)}
    seen["executions"] = connection.exists(f"{RQ}:worker:w1:executions", f"{RQ}:wip:{QUEUE}")
    (counts,) = [connection.hmget(key, "successful_job_count", "failed_job_count") for key in [f"{RQ}:worker:w1"]]
    seen["counts"] = [int(count or 0) for count in counts]
    if not connection.exists(contract.job_key(job)):
        return seen
    fetched = fetch(connection, job)
    assert fetched.started_at is not None
    assert fetched.ended_at is not None
    result = fetched.latest_result()
    assert result is not None
    seen |= {
        "status": fetched.get_status(),
        "worker": fetched.worker_name,
        "in order": fetched.created_at <= fetched.started_at <= fetched.ended_at,
        "results": [one.type for one in fetched.results()],
        "value": fetched.return_value(),
        "has reason": bool(result.exc_string),
        "result's worker": result.worker_name,
        "result's times": (
            result.execution_started_at <= result.execution_ended_at,
            bool(result.execution_id),
        ),
        "lives": [round_ttl(connection.ttl(key)) for key in (fetched.key, f"{RQ}:results:{job}")],
    }
    for registry in registries_of(connection, job):
        key = {"FinishedJobRegistry": "finished", "FailedJobRegistry": "failed"}[registry]
        score = connection.zscore(f"{RQ}:{key}:{QUEUE}", job)
        left = score - connection.time()[0]
        seen["registered for"] = left if left == float("inf") else round_ttl(left)
    return seen


def round_ttl(seconds: float) -> float:
    """Seconds that a slow test run may take do not count; -1 stays itself."""
    return seconds if seconds < 0 else round(seconds / 100) * 100


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        ("stock_task.classify", {}),
        ("stock_task.classify", {"result_ttl": 500}),
        ("stock_task.classify", {"result_ttl": -1}),
        ("stock_task.classify", {"result_ttl": 0}),
        ("stock_task.fail", {}),
        ("stock_task.fail", {"failure_ttl": 500}),
    ],
    ids=["ok", "ok-500-s", "ok-for-ever", "ok-deleted", "failed", "failed-500-s"],
)
def test_a_finished_job_is_as_a_stock_worker_leaves_it(
    connection: redis.Redis,
    producer: Producer,
    signal_handlers: None,
    function: str,
    fields: dict[str, Any],
) -> None:
    stock = seen_by_rq(connection, run_stock(connection, producer, function, fields))
    connection.flushdb()
    assert seen_by_rq(connection, run_ours(connection, producer, function, fields)) == stock


# --- dependents of jobs that fail ---------------------------------------------------------------------------


def run_batch_worker(connection: redis.Redis) -> None:
    """The real worker until the queue is empty; its net is never asked, since no job's request can be read."""
    net = SimpleNamespace(engine="none")
    loaded = LoadedNet(contract.Model("none", "0" * 64), net, None)  # type: ignore[arg-type]
    worker = BatchWorker([QUEUE], name="w1", connection=connection)
    worker.nets, worker.metrics, worker.settings = Nets([loaded]), Metrics(CollectorRegistry()), Settings()
    worker.work(burst=True)


def run_stock_worker(connection: redis.Redis) -> None:
    SimpleWorker([QUEUE], name="w1", connection=connection, serializer=JSONSerializer).work(burst=True)


@pytest.mark.parametrize("run", [run_stock_worker, run_batch_worker])
@pytest.mark.parametrize(("allow_failure", "queued_after"), [(False, 0), (True, 1)])
def test_dependents_of_a_failed_job_are_queued_only_if_they_allow_it(
    connection: redis.Redis,
    producer: Producer,
    signal_handlers: None,
    run: Callable[[redis.Redis], None],
    allow_failure: bool,
    queued_after: int,
) -> None:
    job = prepare(connection, producer, "stock_task.fail", {})
    others = Queue("other", connection=connection, serializer=JSONSerializer)
    others.enqueue("stock_task.classify", depends_on=Dependency(job, allow_failure=allow_failure))
    run(connection)
    assert (fetch(connection, job).get_status(), others.count) == ("failed", queued_after)
