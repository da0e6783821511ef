"""Jobs per second of the queue alone: our batch worker with a net that does nothing, against other queues' workers.

One worker process at a time, on the same embedded server, without persistence, all jobs queued before the clock starts,
results kept; the rounds alternate. RQ's SimpleWorker always, on three queues, JSON; BullMQ (256 jobs at once, where
Node is) and saq with `--peers`. Quote the ratio: the machine's speed drifts.

    python tests/benchmarks/queue_rate.py [--jobs 3000] [--rounds 5] [--peers] [--json]
"""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from peers.machine import describe_machine
from prometheus_client import CollectorRegistry
from rows import print_json, print_rows
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

HERE = Path(__file__).parent
PEERS_PYTHON = HERE.parents[1] / ".venv-peers/bin/python"


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


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a worker measured; processor time is its process's, and not Redis's."""

    images_per_second: float
    cpu_us: float  # per image


def time_simple_worker(url: str, jobs: int) -> Turn:
    """RQ's SimpleWorker."""
    with connect(url, resend=False) as connection:
        connection.flushdb()
        queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in QUEUES]
        queues[1].enqueue_many([Queue.prepare_data("queue_benchmark_nothing.nothing") for _ in range(jobs)])
        worker = SimpleWorker(queues, connection=connection, serializer=JSONSerializer)
        worker.log_result_lifespan = worker.log_job_description = False
        started, cpu = time.perf_counter(), time.process_time()
        worker.work(burst=True, logging_level="ERROR")
        return Turn(jobs / (time.perf_counter() - started), 1e6 * (time.process_time() - cpu) / jobs)


def time_batch_worker(url: str, jobs: int, batch: int, chunk: int) -> Turn:
    """Our worker, `chunk` images per job."""
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
        marks: list[tuple[float, float]] = []

        def mark() -> None:
            marks.append((time.perf_counter(), time.process_time()))

        begin, end = worker._begin, worker._end

        def timed_begin(machine: Machine) -> None:  # registration is not the loop
            begin(machine)
            mark()

        def timed_end(machine: Machine) -> None:
            mark()
            end(machine)

        worker._begin, worker._end = timed_begin, timed_end  # type: ignore[method-assign]
        worker.work(burst=True)
        with Producer(url) as producer:
            assert producer.progress().ok == jobs
        (began, cpu_before), (ended, cpu_after) = marks
        return Turn(jobs / (ended - began), 1e6 * (cpu_after - cpu_before) / jobs)


def time_peer(url: str, jobs: int, folder: Path, *command: str) -> Turn:
    """A worker of another queue, in a process of its own, which prints what it measured."""
    with connect(url, resend=False) as connection:
        connection.flushdb()
    done = subprocess.run([*command[:-1], str(jobs), command[-1]], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{command}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return Turn(found["jobs_per_second"], found["cpu_us"])


def peers(server: EmbeddedRedis, python: Path) -> Iterator[tuple[str, Callable[[str, int], Turn]]]:
    """Those that are installed in the environment of this interpreter; raises ClickException when none are."""
    if not python.exists():
        raise click.ClickException(f"{python} is not there; `make bench-peers` makes it")
    folder, node = python.absolute().parents[1], shutil.which("node")
    if node and (folder / "node_modules/bullmq").exists():
        script, socket = str(HERE / "peers/bullmq_peer.mjs"), server.url.removeprefix("unix://")
        yield "BullMQ, concurrency 256", lambda url, jobs: time_peer(url, jobs, folder, node, script, socket, "256")
    command = (str(python.absolute()), str(HERE / "peers/saq_peer.py"), server.url, "64")
    yield "saq, concurrency 64", lambda url, jobs: time_peer(url, jobs, folder, *command)


CASES = {  # images per take, images per job
    "imagequeue, batch 1": (1, 1),
    "imagequeue, batch 8": (8, 1),
    "imagequeue, batch 64": (64, 1),
    "imagequeue, batch 64, 64 images per job": (64, 64),
}
SIMPLE = "RQ SimpleWorker"
SIMPLE_JOBS_MOST = 1000  # it is slow, and its rate does not depend on how many


@click.command(help=__doc__)
@click.option("--jobs", default=3000, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--peers", "with_peers", is_flag=True, help="Compare with BullMQ and saq, too")
@click.option("--peers-python", type=click.Path(path_type=Path), default=PEERS_PYTHON, help="Interpreter that has them")
@click.option("--json", "as_json", is_flag=True)
def main(jobs: int, rounds: int, with_peers: bool, peers_python: Path, as_json: bool) -> None:
    module = types.ModuleType("queue_benchmark_nothing")
    module.nothing = nothing  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    configure_logging("error", json=False)
    logging.getLogger("rq").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), options={"appendonly": "no"}) as server:
        contenders: dict[str, Callable[[str, int], Turn]] = {
            SIMPLE: lambda url, jobs: time_simple_worker(url, min(jobs, SIMPLE_JOBS_MOST)),
            **(dict(peers(server, peers_python)) if with_peers else {}),
            **{name: partial(time_batch_worker, batch=batch, chunk=chunk) for name, (batch, chunk) in CASES.items()},
        }
        turns: dict[str, list[Turn]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, turn in contenders.items():
                turns[name].append(turn(server.url, jobs))
    rates = {name: statistics.median(turn.images_per_second for turn in found) for name, found in turns.items()}
    others = [name for name in rates if name not in CASES]
    rows = [
        {
            "worker": name,
            "images/s": round(rate),
            "cpu us per image": round(statistics.median(turn.cpu_us for turn in turns[name]), 1),
            **{f"x {other}": round(rate / rates[other], 2) for other in others},
        }
        for name, rate in rates.items()
    ]
    if as_json:
        print_json(machine=describe_machine(None), jobs=jobs, rounds=rounds, workers=rows)
        return
    print_rows(rows)


if __name__ == "__main__":
    main()
