"""Images per second against the number of workers: is a worker worth the same in a large fleet as alone?

Redis is on one host and the workers are on two others (network namespaces; root is needed), the net is a sleep of
some milliseconds per image. So it is not the cores of this machine that are measured, but what workers share: Redis,
the queue's scripts, leases.

    python tests/benchmarks/scaling.py [--workers 1,2,4,8] [--image-ms 20] [--seconds 10] [--rounds 3] [--json]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from prometheus_client import CollectorRegistry

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
from queue_rate import NothingBatch, NothingPipeline

from hosts import Host, network
from imagequeue import Producer
from imagequeue.connection import connect
from imagequeue.contract import QUEUES
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.embedded_redis import SERVER_VARIABLE, EmbeddedRedis, _server_binary
from imagequeue_worker.logs import configure_logging
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.pipeline import Classified
from imagequeue_worker.settings import Settings

READY_SECONDS = 180.0
EDGE = 0.15  # of the images at either end are not measured: fleets begin and end unevenly


class SleepingPipeline(NothingPipeline):
    """A net that takes the same time for every image, and no processor."""

    image_seconds = 0.0

    def classify_ready(self, batch: NothingBatch, patience_seconds: float | None) -> Classified:
        time.sleep(self.image_seconds * sum(len(job.ids) for job in batch.jobs))
        return super().classify_ready(batch, patience_seconds)


def work(url: str, image_ms: float) -> None:
    """Be a worker until killed."""
    configure_logging("error", json=False)
    SleepingPipeline.image_seconds = image_ms / 1000

    class Worker(BatchWorker):
        settings = Settings(redis_url=url)
        nets = ()  # type: ignore[assignment]
        metrics = Metrics(CollectorRegistry())
        make_pipeline = staticmethod(lambda *_: SleepingPipeline())  # type: ignore[assignment]

    with connect(url, resend=False) as connection:
        Worker(list(QUEUES), connection=connection).work(logging_level="ERROR")


@contextmanager
def redis_on(host: Host) -> Iterator[EmbeddedRedis]:
    """A server on a host of its own, which we reach by its socket."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "redis-server"
        there.write_text(f'#!/bin/sh\nexec {" ".join(map(str, host.command(_server_binary())))} "$@"\n')
        there.chmod(0o755)
        os.environ[SERVER_VARIABLE] = str(there)
        options = {"bind": host.address, "port": "6379", "protected-mode": "no"}
        with EmbeddedRedis(Path(folder) / "data", options=options) as server:
            yield server


def measure(
    server: EmbeddedRedis, hosts: Sequence[Host], address: str, workers: int, image_ms: float, seconds: float
) -> float:
    """Images per second of a fleet, in the middle of its work."""
    images = round(workers * seconds * 1000 / image_ms)
    command = [sys.executable, __file__, "--work", f"redis://{address}:6379/0", "--image-ms", str(image_ms)]
    with ExitStack() as stack, connect(server.url, resend=False) as connection, Producer(server.url) as producer:
        connection.flushdb()
        for number in range(workers):
            process = subprocess.Popen(hosts[number % len(hosts)].command(*command))
            stack.callback(process.wait)
            stack.callback(process.kill)
        deadline = time.monotonic() + READY_SECONDS
        while connection.scard("rq:workers") < workers:
            if time.monotonic() > deadline:
                raise click.ClickException(f"{workers} workers were not ready within {READY_SECONDS:g} s")
            time.sleep(0.05)
        producer.submit_many(f"/nowhere/{number}.jpg" for number in range(images))
        first, last = EDGE * images, (1 - EDGE) * images
        marks: list[tuple[float, int]] = []
        deadline = time.monotonic() + 10 * seconds
        while not marks or marks[-1][1] < last:
            if time.monotonic() > deadline:
                raise click.ClickException(f"{producer.progress()} after {10 * seconds:g} s")
            done = producer.progress().ok
            if done >= first:
                marks.append((time.perf_counter(), done))
            time.sleep(0.02)
    (began, at_first), (ended, at_last) = marks[0], marks[-1]
    return (at_last - at_first) / (ended - began)


@click.command()
@click.option("--workers", default="1,2,4,8", show_default=True, help="Sizes of the fleet")
@click.option("--image-ms", default=20.0, show_default=True, help="What the simulated net takes for an image")
@click.option("--seconds", default=10.0, show_default=True, help="Length of one measurement")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--work", "work_url", hidden=True)
def main(workers: str, image_ms: float, seconds: float, rounds: int, as_json: bool, work_url: str | None) -> None:
    """Measure and print medians."""
    if work_url:
        work(work_url, image_ms)
        return
    sizes = [int(size) for size in workers.split(",")]
    rates: dict[int, list[float]] = {size: [] for size in sizes}
    with network(["redis", "east", "west"]) as hosts, redis_on(hosts["redis"]) as server:
        for _ in range(rounds):
            for size in sizes:
                fleet = [hosts["east"], hosts["west"]]
                rates[size].append(measure(server, fleet, hosts["redis"].address, size, image_ms, seconds))
    rows = [
        {"workers": size, "images_per_second": round(rate, 1), "per_worker": round(rate / size, 2)}
        for size, rate in ((size, statistics.median(values)) for size, values in rates.items())
    ]
    for row in rows:
        row["of_the_first"] = round(row["per_worker"] / rows[0]["per_worker"], 3)
    if as_json:
        click.echo(json.dumps(rows))
        return
    click.echo("| workers | images/s | per worker | of one alone |\n| --- | --- | --- | --- |")
    for row in rows:
        click.echo(
            f"| {row['workers']} | {row['images_per_second']} | {row['per_worker']} | {row['of_the_first']:.1%} |"
        )


if __name__ == "__main__":
    main()
