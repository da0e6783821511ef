"""Is anything growing? Memory, files, threads and keys of a system that has classified many images, before and after.

    python tests/benchmarks/soak.py [--images 200000] [--settle-seconds 70] [--json]

A real `imagequeue-worker run` (one process, its /metrics scraped), a real Redis, and a producer that keeps a few
hundred images in flight, reads their results and drops each finished collection. So that it ends soon, the pictures are
small (JPEGs of 64 pixels) and so is the net (of MobileNetV2's shape, a tenth as wide, for 64 pixels); all else is
as it is. Samples are taken all along. Growth is told between two samples for which the queue has rested until what
expires by itself (RQ's job hashes, a minute) was gone: after a tenth of the images, and at the end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import click
import redis

sys.path[:0] = [str(Path(__file__).parent / name) for name in ("peers", "peers/systems")] + [
    str(Path(__file__).parents[1])
]

from latency import percentile  # noqa: E402
from machine import describe_machine  # noqa: E402
from PIL import Image as Picture  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import free_port, pictures  # noqa: E402

from imagequeue import Image, Producer, Status  # noqa: E402
from imagequeue.connection import connect  # noqa: E402
from imagequeue_worker.embedded_redis import EmbeddedRedis  # noqa: E402
from synthetic_net import write_synthetic_net  # noqa: E402

SIDE = 64
PICTURES = 100
WINDOW = 512  # images in flight
WARM_SHARE = 0.1
WAIT_SECONDS = 600.0
ROWS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was at one instant; of all processes of the worker together, except where it says otherwise."""

    images: int
    rss_mib: float
    fds: int
    threads: int
    client_rss_mib: float
    redis_keys: int
    redis_mib: float
    p99_ms: float  # from submission to result published, of the images since the last sample


@dataclass(frozen=True)
class Soak:
    """The running parts."""

    connection: redis.Redis
    producer: Producer
    worker: subprocess.Popen[bytes]
    metrics_port: int
    files: list[str]

    def classify(self, collection: str, count: int) -> list[float]:
        """Classify so many images, drop them, and return the seconds that each took."""
        seconds: list[float] = []
        for first in range(0, count, WINDOW):
            numbers = range(first, min(first + WINDOW, count))
            images = [Image(f"image-{number}", self.files[number % len(self.files)]) for number in numbers]
            ids = self.producer.submit_many(images, collection=collection).ids
            for result in self.producer.as_completed(ids, collection=collection, timeout=WAIT_SECONDS):
                if result.status is not Status.OK:
                    raise click.ClickException(f"{result.ref}: {result.error}")
                seconds.append(result.finished_at - result.submitted_at)
        self.producer.drop(collection)
        return seconds

    def sample(self, images: int, seconds: list[float]) -> Sample:
        """Look at everything; also does what Prometheus would."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=60) as answer:
            answer.read()
        pids = [self.worker.pid, *children(self.worker.pid)]
        return Sample(
            images,
            round(sum(map(resident_mib, pids)), 2),
            sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
            sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids),
            round(resident_mib("self"), 2),
            self.connection.dbsize(),
            round(self.connection.info("memory")["used_memory"] / 2**20, 3),
            round(1000 * percentile(seconds, 99), 1) if seconds else 0.0,
        )


def resident_mib(pid: int | str) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running() -> Iterator[Soak]:
    """Server, worker and producer, on small pictures and a small net."""
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name, "redis")) as server:
        net = write_synthetic_net(Path(name, "net"), width=0.1, size=SIDE, classes=100)
        (net / "net.json").write_text(f'{{"name": "small", "preprocessing": {{"resize": {SIDE}, "crop": {SIDE}}}}}')
        files = small_pictures(Path(name, "pictures"))
        port = free_port()
        command = [sys.executable, "-m", "imagequeue_worker.cli", "run", "--redis-url", server.url, "--net", str(net)]
        command += ["--image-root", name, "--processes", "1", "--metrics-port", str(port), "--log-level", "error"]
        worker = subprocess.Popen(command)
        try:
            with connect(server.url, resend=False) as connection, Producer(server.url) as producer:
                while not producer.status().workers:
                    if worker.poll() is not None:
                        raise click.ClickException(f"the worker ended with code {worker.returncode}")
                    time.sleep(0.05)
                yield Soak(connection, producer, worker, port, files)
        finally:
            worker.terminate()
            worker.wait()


def small_pictures(folder: Path) -> list[str]:
    """Pieces of scikit-image's photographs."""
    folder.mkdir()
    photographs = [Picture.open(file).convert("RGB") for file in pictures(None)]
    files = []
    for number in range(PICTURES):
        photograph = photographs[number % len(photographs)]
        left, top = (number * 37 % (side - SIDE) for side in photograph.size)
        files.append(str(folder / f"{number}.jpg"))
        photograph.crop((left, top, left + SIDE, top + SIDE)).save(files[-1], quality=90)
    return files


def soak(images: int, samples: int, settle_seconds: float) -> tuple[list[Sample], Sample, Sample]:
    """The samples all along, and the two that growth is told between."""
    found: list[Sample] = []
    with running() as stage:
        done, rested = 0, None
        for number in range(samples):
            count = images * (number + 1) // samples - done
            seconds = stage.classify(f"soak-{number}", count)
            done += count
            found.append(stage.sample(done, seconds))
            click.echo(f"{done:,} of {images:,} images", err=True)
            if rested is None and done >= WARM_SHARE * images:
                time.sleep(settle_seconds)
                rested = stage.sample(done, [])
        time.sleep(settle_seconds)
        last = stage.sample(done, [])
    assert rested is not None
    return found, rested, last


def growth_of(found: list[Sample], rested: Sample, last: Sample) -> dict[str, float]:
    """Growth of each figure, in percent; p99 between the medians of the first and the last third of the samples."""
    names = [field.name for field in fields(Sample) if field.name not in ("images", "p99_ms")]
    growth = {name: 100 * (getattr(last, name) / getattr(rested, name) - 1) for name in names}
    third = max(1, len(found) // 3)
    first, end = (statistics.median(one.p99_ms for one in part) for part in (found[:third], found[-third:]))
    return {name: round(value, 2) for name, value in {**growth, "p99_ms": 100 * (end / first - 1)}.items()}


@click.command(help=__doc__)
@click.option("--images", default=200_000, show_default=True)
@click.option("--samples", default=40, show_default=True)
@click.option("--settle-seconds", default=70.0, show_default=True, help="Rest before the two samples that are compared")
@click.option("--json", "as_json", is_flag=True)
def main(images: int, samples: int, settle_seconds: float, as_json: bool) -> None:
    begun = time.monotonic()
    found, rested, last = soak(images, samples, settle_seconds)
    growth = growth_of(found, rested, last)
    if as_json:
        print_json(
            machine=describe_machine(None), images=images, seconds=round(time.monotonic() - begun, 1),
            samples=[asdict(one) for one in found], rested=asdict(rested), last=asdict(last), growth_percent=growth,
        )  # fmt: skip
        return
    print_rows([asdict(one) for one in found[:: max(1, len(found) // ROWS_SHOWN)]], title="under load")
    columns = [("rested", asdict(rested)), ("at the end", asdict(last)), ("growth, %", {"images": "", **growth})]
    print_rows([{"": name, **values} for name, values in columns], title="at rest (p99: under load)")


if __name__ == "__main__":
    main()
