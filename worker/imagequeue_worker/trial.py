"""Pictures through a queue of their own, on this machine: a temporary Redis, real worker processes, a producer here."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

from imagequeue import Image, Producer, Result, Status
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.own_worker import running_worker, wait_until_ready
from imagequeue_worker.processor_time import tree_seconds
from imagequeue_worker.settings import NetChoice, Settings

WARM_BATCHES = 4  # for each process, before the clock
RESULTS_SECONDS = 600.0


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
        running_worker(_arguments(server.url, files, choices, settings, processes)) as worker,
    ):
        wait_until_ready(producer, worker, processes)
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


def _arguments(
    url: str, files: Sequence[Path], choices: Sequence[NetChoice], settings: Settings, processes: int
) -> list[str]:
    """Those of the worker."""
    arguments = ["--redis-url", url, "--metrics-port", "0", "--log-level", "warning"]
    arguments += ["--engine", settings.engine, "--processes", str(processes)]
    arguments += ["--batch-images", str(settings.batch_images), "--decode-threads", str(settings.decode_threads)]
    arguments += [part for root in sorted({file.parent for file in files}) for part in ("--image-root", str(root))]
    return arguments + [part for choice in choices for part in ("--net", str(choice))]
