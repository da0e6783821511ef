"""The real command, `imagequeue-worker run`, in a process of its own: for commands that show or measure it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from imagequeue import Producer
from imagequeue_worker.errors import WorkerError

STOP_SECONDS = 60.0


@contextmanager
def running_worker(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start it with these arguments; it is ended by SIGTERM."""
    process = subprocess.Popen([sys.executable, "-m", "imagequeue_worker.cli", "run", *arguments])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(producer: Producer, process: subprocess.Popen[bytes], processes: int = 1) -> None:
    """Return when so many of its processes have loaded their nets and said so, which is when RQ knows them.

    Raises WorkerError when it has ended.
    """
    while len(producer.status().workers) < processes:
        if process.poll() is not None:
            raise WorkerError(f"the worker ended with code {process.returncode}; its reason stands above")
        time.sleep(0.05)
