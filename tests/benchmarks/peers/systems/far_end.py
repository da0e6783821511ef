"""The far end of a system's pipe: the client of a queue or server, which starts and stops its workers when asked to.

One JSON object a line, both ways; what libraries print goes to standard error. Each system is one file that derives
from `System`; `our_system.py` is ours.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any

WAIT_SECONDS = 300.0
STOP_SECONDS = 15.0
CLIENT_THREADS = 64  # that wait for an answer each, in an open loop


@cache
def setup() -> dict[str, Any]:
    """What the benchmark has told this process and those that it starts."""
    return json.loads(os.environ["BENCHMARK_SETUP"])


class System(ABC):
    """A client and its workers."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def start(self, workers: int) -> None:
        """Start so many worker processes."""

    @abstractmethod
    def classify(self, refs: Sequence[str]) -> list[int]:
        """Submit all; the best class of each, in order, when the last is known."""

    @abstractmethod
    def classify_one(self, ref: str) -> int:
        """Submit one and wait for it; may be called by many threads."""

    def open_loop(self, refs: Sequence[str], due: Sequence[float]) -> list[float]:
        """Submit each at its time (seconds after the start); seconds from that time until its answer was seen.

        A thread for each that waits: when all are busy, what is due waits, and that counts.
        """

        def one(ref: str, at: float) -> float:
            self.classify_one(ref)
            return time.perf_counter() - at

        begun = time.perf_counter() + 0.1
        with ThreadPoolExecutor(CLIENT_THREADS) as threads:
            waiting = []
            for ref, offset in zip(refs, due, strict=True):
                time.sleep(max(0.0, begun + offset - time.perf_counter()))
                waiting.append(threads.submit(one, ref, begun + offset))
            return [future.result() for future in waiting]

    def run(self, *command: str, **environment: str) -> None:
        """Start a process that `stop` ends."""
        self.processes.append(subprocess.Popen(command, env=os.environ | environment, start_new_session=True))

    def check(self) -> None:
        """Raise when a worker has ended: nobody would answer."""
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with code {process.returncode}")

    def stop(self) -> None:
        """End the workers, and those that they left behind."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else's
            process.wait()
        self.processes.clear()


class Commands:
    """What the near end may ask for; each method's answer is a JSON object."""

    def __init__(self, system: System) -> None:
        self._system = system

    def start(self, workers: int, refs: Sequence[str]) -> dict[str, Any]:
        """Start the workers and give them something to do, so that the clock meets warm ones."""
        self._system.start(workers)
        self._system.classify(refs)
        return {}

    def classify(self, refs: Sequence[str]) -> dict[str, Any]:
        started = time.perf_counter()
        answers = self._system.classify(refs)
        return {"seconds": time.perf_counter() - started, "answers": answers}

    def idle(self, refs: Sequence[str], pause_seconds: float) -> dict[str, Any]:
        """One image at a time: seconds from its submission until its result was seen."""
        seconds = []
        for ref in refs:
            time.sleep(pause_seconds)
            started = time.perf_counter()
            self._system.classify_one(ref)
            seconds.append(time.perf_counter() - started)
        return {"seconds": seconds}

    def open_loop(self, refs: Sequence[str], rate: float, seed: int) -> dict[str, Any]:
        """Poisson arrivals of so many images per second, whatever becomes of those before."""
        rng, due, at = random.Random(seed), [], 0.0
        for _ in refs:
            at += rng.expovariate(rate)
            due.append(at)
        return {"seconds": self._system.open_loop(refs, due)}

    def stop(self) -> dict[str, Any]:
        self._system.stop()
        return {}


def serve(system: System) -> None:
    """Answer on standard output until standard input ends."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        commands = Commands(system)
        try:
            for line in sys.stdin:
                asked = json.loads(line)
                answers.write(json.dumps(getattr(commands, asked.pop("do"))(**asked)) + "\n")
                answers.flush()
        finally:
            system.stop()


def until(true: Any, system: System) -> None:
    """Return when it is true, as soon as it is; raise when a worker has ended or it takes too long."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        system.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not done within {WAIT_SECONDS:g} s")
        time.sleep(0.005)
