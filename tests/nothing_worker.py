"""A worker whose net does nothing, as a process: `python tests/nothing_worker.py URL [--images-per-second N]`.

It takes, fences, publishes and finishes like any other, so what is said of the queue with it holds; every reference
that contains `missing` ends as `not_found`. SIGTERM ends it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from queue_rate import NothingPipeline

from imagequeue.connection import connect
from imagequeue.contract import QUEUES, ErrorCode, Failure, Outcome, Status
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.logs import configure_logging
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.settings import Settings


class Pipeline(NothingPipeline):
    """The same, at a pace, and with errors."""

    def __init__(self, images_per_second: float) -> None:
        self._pace = images_per_second

    def _answer(self, job: TakenJob) -> FinishedJob:
        request = job.request()
        if self._pace:
            time.sleep(len(request.images) / self._pace)
        return FinishedJob(job, [outcome(image.id, image.ref) for image in request.images], request)


def outcome(id_: str, ref: str) -> Outcome:
    if "missing" in ref:
        return Outcome(id=id_, ref=ref, status=Status.ERROR, error=Failure(ErrorCode.NOT_FOUND, "nothing is there"))
    return Outcome(id=id_, ref=ref, status=Status.OK)


@click.command()
@click.argument("url")
@click.option("--images-per-second", type=float, default=0.0)
def main(url: str, images_per_second: float) -> None:
    """Work until SIGTERM."""
    configure_logging("error", json=False)

    class Worker(BatchWorker):
        settings = Settings(batch_images=64)
        nets = ()  # type: ignore[assignment]
        metrics = Metrics(CollectorRegistry())

        @staticmethod
        def make_pipeline(*_: Any) -> Pipeline:  # type: ignore[override]
            return Pipeline(images_per_second)

    with connect(url, resend=False) as connection:
        Worker(list(QUEUES), connection=connection).work()


if __name__ == "__main__":
    main()
