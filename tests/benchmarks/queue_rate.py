"""Jobs per second of the queue alone: our batch worker with a net that does nothing, against RQ's SimpleWorker.

Both run in one process each, one after the other, on the same embedded server, three queues, JSON; the rounds
alternate. Quote the ratio: the machine's speed drifts.

    python tests/benchmarks/queue_rate.py [--jobs 3000] [--rounds 5] [--json]
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from prometheus_client import CollectorRegistry
from rq import Queue
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from imagequeue import Producer
from imagequeue.connection import connect
from imagequeue.contract import QUEUES, Outcome, Status
from imagequeue_worker.batch_worker import BatchWorker, Machine
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.logs import configure_logging
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.pipeline import Batch, Classified
from imagequeue_worker.settings import Settings


class NothingBatch:
    """Jobs that need no pictures."""

    def __init__(self, jobs: list[TakenJob]) -> None:
        self.jobs = jobs
        self.images = sum(len(job.ids) for job in jobs)


class NothingPipeline:
    """Reads every request and answers every image, without a picture or a net."""

    def prepare(self, jobs: list[TakenJob]) -> NothingBatch:
        return NothingBatch(jobs)

    def classify_ready(self, batch: NothingBatch, patience_seconds: float | None) -> Classified:
        answers = [self._answer(job) for job in batch.jobs]
        return Classified(answers, [], Batch(), sum(len(answer.outcomes) for answer in answers))

    def _answer(self, job: TakenJob) -> FinishedJob:
        request = job.request()
        images = request.images
        return FinishedJob(job, [Outcome(id=image.id, ref=image.ref, status=Status.OK) for image in images], request)

    def tell_of_late_ones(self, tell: Callable[[], None]) -> None:
        pass

    def close(self) -> None:
        pass


def nothing() -> None:
    """What RQ's worker runs."""


def time_simple_worker(url: str, jobs: int) -> float:
    """Jobs per second of RQ's SimpleWorker."""
    with connect(url, resend=False) as connection:
        connection.flushdb()
        queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in QUEUES]
        queues[1].enqueue_many([Queue.prepare_data("queue_benchmark_nothing.nothing") for _ in range(jobs)])
        worker = SimpleWorker(queues, connection=connection, serializer=JSONSerializer)
        worker.log_result_lifespan = worker.log_job_description = False
        started = time.perf_counter()
        worker.work(burst=True, logging_level="ERROR")
        return jobs / (time.perf_counter() - started)


def time_batch_worker(url: str, jobs: int, batch: int, chunk: int) -> float:
    """Images per second of our worker, `chunk` images per job."""
    with connect(url, resend=False) as connection:
        connection.flushdb()
        with Producer(url, depth_limit=10**9) as producer:
            producer.submit_many((f"/nowhere/{number}.jpg" for number in range(jobs)), chunk=chunk)

        class Worker(BatchWorker):
            settings = Settings(batch_images=batch)
            nets = ()  # type: ignore[assignment]
            metrics = Metrics(CollectorRegistry())
            make_pipeline = staticmethod(lambda *_: NothingPipeline())  # type: ignore[assignment]

        worker = Worker(list(QUEUES), connection=connection)
        took: list[float] = []
        begin = worker._begin

        def timed_begin(machine: Machine) -> None:  # registration is not the loop
            begin(machine)
            took.append(time.perf_counter())

        worker._begin = timed_begin  # type: ignore[method-assign]
        end = worker._end
        worker._end = lambda machine: (took.append(time.perf_counter()), end(machine))[1]  # type: ignore[method-assign]
        worker.work(burst=True)
        with Producer(url) as producer:
            assert producer.progress().ok == jobs
        return jobs / (took[1] - took[0])


@click.command()
@click.option("--jobs", default=3000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(jobs: int, rounds: int, as_json: bool) -> None:
    """Measure and print medians and ratios."""
    import sys
    import types

    module = types.ModuleType("queue_benchmark_nothing")
    module.nothing = nothing  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    configure_logging("error", json=False)
    logging.getLogger("rq").setLevel(logging.ERROR)
    cases = {"batch 1": (1, 1), "batch 8": (8, 1), "batch 64": (64, 1), "batch 64, chunks of 64": (64, 64)}
    rates: dict[str, list[float]] = {"SimpleWorker": [], **{name: [] for name in cases}}
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        for _ in range(rounds):
            rates["SimpleWorker"].append(time_simple_worker(server.url, min(jobs, 1000)))
            for name, (batch, chunk) in cases.items():
                rates[name].append(time_batch_worker(server.url, jobs, batch, chunk))
    base = statistics.median(rates["SimpleWorker"])
    rows = [
        {
            "case": name,
            "images_per_second": round(statistics.median(values)),
            "ratio": round(statistics.median(values) / base, 1),
        }
        for name, values in rates.items()
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo(f"{row['case']:24} {row['images_per_second']:7} images/s  {row['ratio']:5} x")


if __name__ == "__main__":
    main()
