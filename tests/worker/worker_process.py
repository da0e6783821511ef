"""Real worker processes for tests: started, waited for, signalled, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from ports import free_port

FAULTY_WORKER = Path(__file__).with_name("faulty_worker.py")
PATIENCE_SECONDS = 60.0


@dataclass
class WorkerProcess:
    """A running `imagequeue-worker run`."""

    process: subprocess.Popen[bytes]
    connection: redis.Redis
    log: Path
    metrics_port: int

    def children(self) -> list[int]:
        """The pids of worker processes, as RQ knows them."""
        found = []
        for key in self.connection.smembers("rq:workers"):
            pid = self.connection.hget(key, "pid")
            if pid and not self.connection.hexists(key, "death"):
                found.append(int(pid))
        return found

    def wait_until_ready(self, count: int = 1) -> WorkerProcess:
        until(lambda: len(self.children()) >= count, self)
        return self

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and return its exit code."""
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE_SECONDS)

    def log_text(self) -> str:
        return self.log.read_text()


StartWorker = Callable[..., WorkerProcess]


def until(true: Callable[[], object], worker: WorkerProcess | None = None) -> None:
    """Return when it is true; fail loudly when that takes forever or the worker has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        if worker is not None and worker.process.poll() is not None:
            raise AssertionError(f"worker ended with {worker.process.returncode}:\n{worker.log_text()}")
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain" + (f":\n{worker.log_text()}" if worker else ""))
        time.sleep(0.01)


def environment() -> dict[str, str]:
    """Ours without settings that a developer's shell may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGEQUEUE_")}


def run_cli(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`imagequeue-worker` with these arguments and these environment variables, to its end."""
    command = [sys.executable, "-m", "imagequeue_worker.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment() | settings, timeout=60)


@contextmanager
def running_worker(
    url: str,
    connection: redis.Redis,
    net: Path,
    log: Path,
    arguments: Sequence[str] = (),
    *,
    roots: Sequence[Path] = (),
) -> Iterator[WorkerProcess]:
    """The real command on a real Redis; killed at the end if it still runs."""
    port = free_port()
    command = [sys.executable, str(FAULTY_WORKER), "run", "--redis-url", url, "--net", str(net)]
    command += ["--metrics-port", str(port), "--lease-seconds", "1", "--processes", "1"]
    command += [part for root in roots for part in ("--image-root", str(root))]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, *arguments], stdout=out, stderr=out, env=environment())
    worker = WorkerProcess(process, connection, log, port)
    try:
        yield worker
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
