"""How soon a service that waits sees that its image is finished, and what a thousand that wait at once cost.

A thread finishes images by the workers' own script; the time from before that call until `wait` has returned is what is
measured, so the script itself is in it.

    python tests/benchmarks/waiting.py [--images 300] [--waiters 1000] [--json]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import click
import redis

sys.path.insert(0, str(Path(__file__).parents[1] / "producer"))

from imagequeue import AsyncProducer, Image, Producer
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from producer_hand import settler


class Finisher:
    """Finishes images, each as soon as somebody waits for it, and remembers when."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._settle = settler(client)
        self.begun: dict[str, float] = {}

    def finish(self, ids: Iterable[str], collection: str) -> None:
        """One after the other."""
        for id_ in ids:
            while not self._client.info("clients")["blocked_clients"]:
                time.sleep(0.001)
            self.begun[id_] = time.perf_counter()
            self._settle(id_, collection=collection)

    def start(self, ids: Iterable[str], collection: str) -> threading.Thread:
        """In a thread."""
        thread = threading.Thread(target=self.finish, args=(ids, collection))
        thread.start()
        return thread


def images(ids: Iterable[str]) -> list[Image]:
    return [Image(id_, f"/pictures/{id_}.jpg") for id_ in ids]


def measure_producer(url: str, finisher: Finisher, count: int) -> list[float]:
    """Seconds of each wait, one after the other."""
    seconds = []
    with Producer(url) as producer:
        for number in range(count):
            id_ = f"t{number}"
            producer.submit(f"/{id_}", id=id_, collection="threads")
            thread = finisher.start([id_], "threads")
            producer.wait([id_], collection="threads")
            seconds.append(time.perf_counter() - finisher.begun[id_])
            thread.join()
    return seconds


async def measure_async(url: str, finisher: Finisher, count: int) -> list[float]:
    """The same in an event loop."""
    seconds = []
    async with AsyncProducer(url) as producer:
        for number in range(count):
            id_ = f"a{number}"
            await producer.submit(f"/{id_}", id=id_, collection="loop")
            thread = finisher.start([id_], "loop")
            await producer.wait([id_], collection="loop")
            seconds.append(time.perf_counter() - finisher.begun[id_])
            thread.join()
    return seconds


async def measure_many(url: str, finisher: Finisher, client: redis.Redis, waiters: int) -> dict[str, float]:
    """All wait at once for an image of their own each."""
    ids = [f"m{number}" for number in range(waiters)]
    async with AsyncProducer(url) as producer:
        await producer.submit_many(images(ids), collection="many", chunk=64)
        cpu, wall = time.process_time(), time.perf_counter()
        waiting = [asyncio.create_task(producer.wait([id_], collection="many")) for id_ in ids]
        while client.info("clients")["blocked_clients"] == 0:
            await asyncio.sleep(0.01)
        thread = finisher.start(ids, "many")
        connections = 0
        while not all(task.done() for task in waiting):
            connections = max(connections, client.info("clients")["connected_clients"])
            await asyncio.sleep(0.05)
        await asyncio.gather(*waiting)
        thread.join()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"waiters": waiters, "connections": connections - 1, "cpu_seconds": cpu, "seconds": wall}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    return {"p50_ms": statistics.median(seconds) * 1000, "p99_ms": statistics.quantiles(seconds, n=100)[98] * 1000}


@click.command()
@click.option("--images", "count", default=300, show_default=True)
@click.option("--waiters", default=1000, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(count: int, waiters: int, as_json: bool) -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder)) as server,
        connect(server.url, resend=False) as client,
    ):
        finisher = Finisher(client)
        found = {
            "Producer.wait": percentiles(measure_producer(server.url, finisher, count)),
            "AsyncProducer.wait": percentiles(asyncio.run(measure_async(server.url, finisher, count))),
            "at once": asyncio.run(measure_many(server.url, finisher, client, waiters)),
        }
    if as_json:
        click.echo(json.dumps(found))
        return
    for name in ("Producer.wait", "AsyncProducer.wait"):
        click.echo(f"{name:20} p50 {found[name]['p50_ms']:6.2f} ms   p99 {found[name]['p99_ms']:6.2f} ms")
    many = found["at once"]
    click.echo(
        f"{many['waiters']} AsyncProducer.wait at once: {many['connections']} connections to Redis (the finisher's own "
        f"included), {many['seconds']:.2f} s, {many['cpu_seconds']:.2f} s of processor time"
    )


if __name__ == "__main__":
    main()
