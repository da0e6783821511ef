"""Pictures through a queue of their own, on this machine: a temporary Redis, real worker processes, a producer here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

from imagequeue import Image, Producer, Result, Status
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.errors import WorkerError
from imagequeue_worker.processor_time import tree_seconds
from imagequeue_worker.settings import NetChoice, Settings

WARM_BATCHES = 4  # for each process, before the clock
RESULTS_SECONDS = 600.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured. Processor time is None where the system does not tell (no /proc)."""

    images: int
    failed: int
    seconds: float
    worker_cpu_seconds: float | None
    redis_cpu_seconds: float | None
    client_cpu_seconds: float
    fetch_seconds: float  # mean of an image, on the clock

    @property
    def images_per_second(self) -> float:
        """From the first submission to the last result."""
        return self.images / self.seconds


def run_trial(
    files: Sequence[Path], choices: Sequence[NetChoice], settings: Settings, processes: int, seconds: float
) -> Trial:
    """Classify the files over and over for about so many seconds.

    Raises WorkerError when the workers end, and WaitTimeout when results do not come.
    """
    with (
        tempfile.TemporaryDirectory(prefix="imagequeue-bench-") as folder,
        EmbeddedRedis(Path(folder)) as server,
        Producer(server.url) as producer,
        _workers(server.url, files, choices, settings, processes) as worker,
    ):
        _wait_until_ready(producer, worker, processes)
        ids, refs = count(), cycle(map(str, files))

        def classify(images: int) -> list[Result]:
            order = [Image(f"image-{next(ids)}", ref) for ref in islice(refs, images)]
            submission = producer.submit_many(order)
            return list(producer.as_completed(submission.ids, timeout=RESULTS_SECONDS))

        warm = WARM_BATCHES * settings.batch_images * processes
        started = time.monotonic()
        classify(warm)
        wanted = max(warm, round(seconds * warm / (time.monotonic() - started)))
        pids = (worker.pid, server.pid or 0)
        before = [tree_seconds(pid) for pid in pids]
        client, started = time.process_time(), time.monotonic()
        results = classify(wanted)
        took, client = time.monotonic() - started, time.process_time() - client
        used = [
            None if now is None or then is None else now - then
            for now, then in zip(map(tree_seconds, pids), before, strict=True)
        ]
    failed = sum(result.status is not Status.OK for result in results)
    fetch = sum(result.seconds.fetch for result in results) / len(results)
    return Trial(len(results), failed, took, used[0], used[1], client, fetch)


def _wait_until_ready(producer: Producer, worker: subprocess.Popen[bytes], processes: int) -> None:
    """Return when RQ knows all of them, which is when they have loaded their nets."""
    while len(producer.status().workers) < processes:
        if worker.poll() is not None:
            raise WorkerError(f"the worker ended with code {worker.returncode}; its reason stands above")
        time.sleep(0.05)


@contextmanager
def _workers(
    url: str, files: Sequence[Path], choices: Sequence[NetChoice], settings: Settings, processes: int
) -> Iterator[subprocess.Popen[bytes]]:
    """The real command in a process of its own, ended by SIGTERM."""
    command = [sys.executable, "-m", "imagequeue_worker.cli", "run", "--redis-url", url, "--metrics-port", "0"]
    command += ["--engine", settings.engine, "--processes", str(processes), "--log-level", "warning"]
    command += ["--batch-images", str(settings.batch_images), "--decode-threads", str(settings.decode_threads)]
    command += [part for root in sorted({file.parent for file in files}) for part in ("--image-root", str(root))]
    command += [part for choice in choices for part in ("--net", str(choice))]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
