"""What submitting costs: the client's processor time, round trips, images per second, and the time to import it.

On an embedded server, with references of 32 bytes. Quote the processor time: wall time is the machine's, which may be
busy with other things, and the server's, which needs a core of its own.

    python tests/benchmarks/submit.py [--images 200000] [--rounds 3] [--json]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from redis.asyncio import connection as aio
from redis.connection import AbstractConnection

from imagequeue import AsyncProducer, Producer
from imagequeue_worker.embedded_redis import EmbeddedRedis

SINGLE_IMAGES = 2_000
IMPORT_ROUNDS = 7


@dataclass(frozen=True)
class Row:
    """One way to submit, per image."""

    way: str
    client_cpu_us: float
    wall_us: float
    round_trips: float


@dataclass(frozen=True)
class Import:
    """Seconds until a module is imported, in a process of its own (median)."""

    code: str
    seconds: float
    of_redis: float


class Ways:
    """The ways to submit, each to a collection of its own."""

    def __init__(self, url: str, images: int) -> None:
        self._url = url
        self._images = images
        self._collections = iter(range(1_000_000))

    def all(self) -> Iterator[Row]:
        """Measure each once."""
        with Producer(self._url, depth_limit=10**9) as producer:
            producer.submit("/warm")
            for chunk in (64, 16):
                name = f"submit_many, chunks of {chunk}"
                yield self._measure(name, self._images, self._many(producer, chunk))
            yield self._measure("submit", SINGLE_IMAGES, self._single(producer))
        yield self._measure("AsyncProducer.submit_many, chunks of 64", self._images, self._async_many())

    def _measure(self, way: str, images: int, act: Callable[[], int]) -> Row:
        with counted_sends() as sends:
            cpu, wall = time.process_time(), time.perf_counter()
            accepted = act()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if accepted != images:
            raise SystemExit(f"{way}: {accepted} of {images} images accepted")
        return Row(way, cpu / images * 1e6, wall / images * 1e6, len(sends) / images)

    def _collection(self) -> str:
        return f"c{next(self._collections)}"

    def _references(self) -> Iterator[str]:
        return (f"/data/pictures/{number:012d}.jpg" for number in range(self._images))

    def _many(self, producer: Producer, chunk: int) -> Callable[[], int]:
        return lambda: producer.submit_many(self._references(), chunk=chunk, collection=self._collection()).accepted

    def _single(self, producer: Producer) -> Callable[[], int]:
        collection = self._collection()
        return lambda: sum(producer.submit(f"/{n}", collection=collection).accepted for n in range(SINGLE_IMAGES))

    def _async_many(self) -> Callable[[], int]:
        async def main() -> int:
            async with AsyncProducer(self._url, depth_limit=10**9) as producer:
                return (
                    await producer.submit_many(self._references(), chunk=64, collection=self._collection())
                ).accepted

        return lambda: asyncio.run(main())


@contextmanager
def counted_sends() -> Iterator[list[None]]:
    """Grows by one each time that a connection sends something: what it sends, it waits for."""
    sends: list[None] = []
    blocking, awaited = AbstractConnection.send_packed_command, aio.AbstractConnection.send_packed_command

    def send(self: Any, *arguments: Any, **options: Any) -> None:
        sends.append(None)
        blocking(self, *arguments, **options)

    async def send_async(self: Any, *arguments: Any, **options: Any) -> None:
        sends.append(None)
        await awaited(self, *arguments, **options)

    AbstractConnection.send_packed_command = send
    aio.AbstractConnection.send_packed_command = send_async
    try:
        yield sends
    finally:
        AbstractConnection.send_packed_command = blocking
        aio.AbstractConnection.send_packed_command = awaited


def measure_imports() -> list[Import]:
    """The modules by turns, so that all see the same machine."""
    codes = ("import redis", "import imagequeue", "from imagequeue import AsyncProducer, Producer")
    seconds: dict[str, list[float]] = {code: [] for code in codes}
    # As installed: with bytecode, whatever this shell says about it.
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    cached["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "imagequeue-bench-pycache")
    for _ in range(IMPORT_ROUNDS):
        for code in codes:
            timed = f"import time; begun = time.perf_counter()\n{code}\nprint(time.perf_counter() - begun)"
            done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True, env=cached)
            seconds[code].append(float(done.stdout))
    of_redis = statistics.median(seconds["import redis"])
    return [Import(code, statistics.median(all_), statistics.median(all_) / of_redis) for code, all_ in seconds.items()]


def medians(rounds: list[list[Row]]) -> list[Row]:
    """Of each way, the median of all rounds."""
    return [
        Row(rows[0].way, *(statistics.median(getattr(row, name) for row in rows) for name in Row.__match_args__[1:]))
        for rows in zip(*rounds, strict=True)
    ]


@click.command()
@click.option("--images", default=200_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(images: int, rounds: int, as_json: bool) -> None:
    """Measure and print."""
    measured = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
            measured.append(list(Ways(server.url, images).all()))
    rows, imports = medians(measured), measure_imports()
    if as_json:
        click.echo(
            json.dumps({"images": images, "ways": list(map(asdict, rows)), "imports": list(map(asdict, imports))})
        )
        return
    click.echo(f"{'per image':42} {'client CPU':>12} {'wall':>12} {'round trips':>12}")
    for row in rows:
        click.echo(f"{row.way:42} {row.client_cpu_us:9.1f} µs {row.wall_us:9.1f} µs {row.round_trips:12.4f}")
    for each in imports:
        click.echo(f"{each.code:50} {each.seconds * 1000:7.0f} ms {each.of_redis:7.2f} x redis")


if __name__ == "__main__":
    main()
