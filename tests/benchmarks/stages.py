"""Where an image's microseconds go: processor time of each stage, of the queue, and of all of it together.

    python tests/benchmarks/stages.py [--net FOLDER] [--images FOLDER] [--count 1000] [--rounds 3] [--json]

The stages are timed one by one in one thread. What the queue takes of client, worker and Redis is read off runs with a
net that does nothing; what an image takes of a worker, off a run of `imagequeue-worker run` with one process. Commands
and round trips of Redis are its own counts (commands inside scripts are commands; a round trip is a read of its
sockets) while the worker works off what was submitted before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from time import monotonic, process_time, sleep

import click
import redis

sys.path[:0] = [str(Path(__file__).parent / name) for name in ("peers", "peers/systems")]

from machine import describe_machine  # noqa: E402
from rows import print_json, print_rows  # noqa: E402
from stage import net_at_hand, pictures  # noqa: E402

from imagequeue import Image, Producer  # noqa: E402
from imagequeue.connection import connect  # noqa: E402
from imagequeue_worker.embedded_redis import EmbeddedRedis  # noqa: E402
from imagequeue_worker.logs import configure_logging  # noqa: E402
from imagequeue_worker.nets import load_nets  # noqa: E402
from imagequeue_worker.processor_time import tree_seconds  # noqa: E402
from imagequeue_worker.settings import NetChoice  # noqa: E402
from imagequeue_worker.stages import measure_stages  # noqa: E402

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
NOTHING_WORKER = Path(__file__).parents[1] / "nothing_worker.py"
WAIT_SECONDS = 600.0
PRODUCER_RESUMES = 1  # command, after the first count
Costs = dict[str, float]


@contextmanager
def worker(server: EmbeddedRedis, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process, ready, and ended afterwards."""
    process = subprocess.Popen([sys.executable, *command])
    try:
        with Producer(server.url) as producer:
            deadline = monotonic() + WAIT_SECONDS
            while not producer.status().workers:
                if process.poll() is not None or monotonic() > deadline:
                    raise click.ClickException(f"{command} ended with code {process.returncode}, or did not start")
                sleep(0.02)
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(server: EmbeddedRedis, files: Sequence[str], count: int, chunk: int, *command: str) -> Costs:
    """Per image: milliseconds of client, worker and Redis; commands and round trips while the worker works."""
    with connect(server.url, resend=False) as connection, Producer(server.url, depth_limit=10**9) as producer:
        connection.flushall()
        with worker(server, *command) as process:
            producer.wait(producer.submit_many(files, chunk=chunk).ids, timeout=WAIT_SECONDS)  # warm
            producer.pause("classify")
            images = [Image(f"image-{number}", file) for number, file in enumerate(islice(cycle(files), count))]
            client = process_time()
            submission = producer.submit_many(images, chunk=chunk)
            client = process_time() - client
            before = _counts(connection, server, process)
            producer.resume("classify")
            asked = _until_done(connection, count + len(files))
            after = _counts(connection, server, process)
            reading = process_time()
            results = producer.wait(submission.ids, timeout=WAIT_SECONDS)
            client += process_time() - reading
    assert len(results) == count
    for name in ("commands", "round trips"):
        before[name] += asked + PRODUCER_RESUMES
    return {"client": 1000 * client / count} | {name: (after[name] - before[name]) / count for name in after}


def _until_done(connection: redis.Redis, results: int) -> int:
    """Return when there are so many results, and how often Redis was asked."""
    deadline, asked = monotonic() + WAIT_SECONDS, 1
    while connection.hlen("imagequeue:results:default") < results:
        if monotonic() > deadline:
            raise click.ClickException(f"no {results} results within {WAIT_SECONDS:g} s")
        sleep(0.2)
        asked += 1
    return asked


def _counts(connection: redis.Redis, server: EmbeddedRedis, process: subprocess.Popen[bytes]) -> Costs:
    stats = connection.info("stats")
    assert server.pid is not None
    return {
        "worker": 1000 * (tree_seconds(process.pid) or 0.0),
        "redis": 1000 * (tree_seconds(server.pid) or 0.0),
        "commands": stats["total_commands_processed"],
        "round trips": stats.get("total_reads_processed", float("nan")),  # since Redis 6
    }


def medians(rounds: int, act: Callable[[], Costs]) -> Costs:
    found = [act() for _ in range(rounds)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def per_image(costs: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in costs.items()}


@click.command(help=__doc__)
@click.option("--net", type=FOLDER, help="Folder with the net; default: the one that a worker would load")
@click.option("--images", type=FOLDER, help="Folder with pictures; default: scikit-image's")
@click.option("--count", default=1000, show_default=True, help="Images of a run; ten times as many with no net")
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(net: Path | None, images: Path | None, count: int, rounds: int, as_json: bool) -> None:
    configure_logging("error", json=False)
    machine = describe_machine(None)
    folder = net or net_at_hand()
    files = pictures(images)
    loaded = load_nets((NetChoice(folder),), "auto").first
    stages = measure_stages(loaded, [Path(file) for file in files], seconds=2.0 * rounds)
    run = ["-m", "imagequeue_worker.cli", "run", "--net", str(folder), "--image-root", str(Path(files[0]).parent)]
    run += ["--processes", "1", "--metrics-port", "0", "--log-level", "error"]
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name)) as server:
        nothing = {
            chunk: medians(
                rounds, lambda chunk=chunk: measure(server, files, 10 * count, chunk, str(NOTHING_WORKER), server.url)
            )
            for chunk in (16, 1)
        }
        whole = medians(rounds, lambda: measure(server, files, count, 16, *run, "--redis-url", server.url))
    queue = nothing[16]
    parts = {**asdict(stages), "queue, worker's": queue["worker"]}
    worker_ms = whole["worker"]
    figures = {
        "stages": [{"stage": stage, "cpu ms per image": round(ms, 4)} for stage, ms in parts.items()],
        "queue": [{"images per job": chunk, **per_image(costs)} for chunk, costs in nothing.items()]
        + [{"images per job": "16, with the net", **per_image(whole)}],
        "sum_of_stages_over_worker_cpu": round(sum(parts.values()) / worker_ms, 3),
    }
    if as_json:
        print_json(machine=machine, net=loaded.model.name, engine=loaded.engine, **figures)
        return
    print_rows(figures["stages"], title=f"{machine['processor']}: {loaded.model.name}, {loaded.engine}")
    print_rows(figures["queue"], title="Of client, worker and Redis, ms per image; commands and round trips per image")
    share = figures["sum_of_stages_over_worker_cpu"]
    click.echo(f"\nsum of the stages {sum(parts.values()):.3f} ms, of the worker's {worker_ms:.3f} ms: {share}")


if __name__ == "__main__":
    main()
