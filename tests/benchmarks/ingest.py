"""Ingestion at scale: its ledger while it is killed and resumed, and the memory it takes, with a net that does nothing.

    python tests/benchmarks/ingest.py ledger [--images 100000] [--kills 20] [--seed 1] [--json]
    python tests/benchmarks/ingest.py memory [--images 1000000] [--limit-in-flight 10000] [--keep-results] [--json]

Server, worker and client are processes of their own. The ledger ends with exit code 1 unless every image has one row
in the journal and one acceptance in Redis. Memory is sampled: resident bytes of the client, used_memory of Redis.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import redis

from imagequeue import contract
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis

TESTS = Path(__file__).parents[1]
RUN = "benchmark"
ROWS_SHOWN = 20


@dataclass(frozen=True)
class Stage:
    """A server, a worker, a list of references, and the command that ingests it."""

    connection: redis.Redis
    command: list[str]
    journal: Path

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL)

    def settled(self) -> int:
        """Images with a result."""
        return sum(self.totals().get(name, 0) for name in ("ok", "error"))

    def totals(self) -> dict[str, int]:
        found = self.connection.hgetall(contract.totals_key(RUN))
        return {name.decode(): int(count) for name, count in found.items()}


@contextmanager
def staged(images: int, limit_in_flight: int, *options: str) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name, "redis")) as server:
        source, journal = Path(name, "list.txt"), Path(name, "journal.sqlite")
        with source.open("w") as file:
            file.writelines(f"/pictures/{number:08}.jpg\n" for number in range(images))
        command = [sys.executable, "-c", "from imagequeue.cli import main; main()", "ingest", str(source)]
        command += ["--run", RUN, "--journal", str(journal), "--redis-url", server.url]
        command += ["--limit-in-flight", str(limit_in_flight), *options]
        worker = subprocess.Popen([sys.executable, str(TESTS / "nothing_worker.py"), server.url])
        try:
            with connect(server.url, resend=False) as connection:
                yield Stage(connection, command, journal)
        finally:
            worker.terminate()
            worker.wait()


@click.group()
def main() -> None:
    """Measure ingestion."""


@main.command()
@click.option("--images", default=100_000, show_default=True)
@click.option("--kills", default=20, show_default=True)
@click.option("--limit-in-flight", default=10_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def ledger(images: int, kills: int, limit_in_flight: int, seed: int, as_json: bool) -> None:
    """Kill an ingestion at random points, start it again until it is done, and count."""
    rng = random.Random(seed)
    with staged(images, limit_in_flight) as stage:
        points = sorted(rng.sample(range(images), kills))
        killed = 0
        begun = time.monotonic()
        for point in points:
            process = stage.start()
            while stage.settled() < point and process.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.random() / 2)
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        code = stage.start().wait()
        seconds = time.monotonic() - begun
        with sqlite3.connect(stage.journal) as journal:
            rows, ids, ok = journal.execute(
                "SELECT count(*), count(DISTINCT id), count(CASE status WHEN 'ok' THEN 1 END) FROM images"
            ).fetchone()
        totals = stage.totals()
    found = {
        "images": images, "kills": killed, "rows": rows, "ids": ids, "ok": ok, "exit_code": code,
        "accepted_by_redis": totals["accepted"], "results_published": totals["ok"], "seconds": round(seconds, 1),
    }  # fmt: skip
    click.echo(json.dumps(found) if as_json else "\n".join(f"{name:18} {value:>10,}" for name, value in found.items()))
    exact = {rows, ids, ok, totals["accepted"], totals["ok"]} == {images}
    sys.exit(0 if exact and code == 0 and killed else 1)


@dataclass(frozen=True)
class Sample:
    """Memory at one instant, in MiB."""

    seconds: float
    images: int  # with a result
    client_rss: float
    redis_used: float


@main.command()
@click.option("--images", default=1_000_000, show_default=True)
@click.option("--limit-in-flight", default=10_000, show_default=True)
@click.option("--keep-results", is_flag=True, help="What it would be without removing results from Redis.")
@click.option("--every", default=2.0, show_default=True, help="Seconds between samples.")
@click.option("--json", "as_json", is_flag=True)
def memory(images: int, limit_in_flight: int, keep_results: bool, every: float, as_json: bool) -> None:
    """Sample the memory of client and Redis while a run goes on."""
    with staged(images, limit_in_flight, *(["--keep-results"] if keep_results else [])) as stage:
        begun = time.monotonic()
        process = stage.start()
        samples = []
        while process.poll() is None:
            samples.append(
                Sample(
                    seconds=round(time.monotonic() - begun, 1),
                    images=stage.settled(),
                    client_rss=resident_mib(process.pid),
                    redis_used=round(stage.connection.info("memory")["used_memory"] / 2**20, 1),
                )
            )
            time.sleep(every)
        seconds = time.monotonic() - begun
        journal_mib = stage.journal.stat().st_size / 2**20
    found = {
        "images": images, "limit_in_flight": limit_in_flight, "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds), "client_rss_mib_max": max(one.client_rss for one in samples),
        "redis_used_mib_max": max(one.redis_used for one in samples), "journal_mib": round(journal_mib, 1),
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps({**found, "samples": [asdict(sample) for sample in samples]}))
    else:
        click.echo(f"{'seconds':>8} {'images':>10} {'client MiB':>11} {'Redis MiB':>10}")
        for one in samples[:: max(1, len(samples) // ROWS_SHOWN)]:
            click.echo(f"{one.seconds:8.0f} {one.images:10,} {one.client_rss:11.1f} {one.redis_used:10.1f}")
        click.echo("\n".join(f"{name:20} {value:>12,}" for name, value in found.items()))
    sys.exit(process.returncode)


def resident_mib(pid: int) -> float:
    """The resident memory of a process; 0 when it has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


if __name__ == "__main__":
    main()
