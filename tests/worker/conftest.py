"""What the worker's tests share: a producer, and a worker process that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from imagequeue import Producer
from worker_process import StartWorker, WorkerProcess, running_worker


@pytest.fixture
def producer(redis_url: str, connection: redis.Redis) -> Iterator[Producer]:
    with Producer(redis_url) as ours:
        yield ours


@pytest.fixture
def start_worker(
    redis_url: str, connection: redis.Redis, net_folder: Path, tmp_path: Path, pictures: list[Path]
) -> Iterator[StartWorker]:
    """start_worker(*arguments): a worker that may read the photographs and tmp_path, ready to work."""
    with ExitStack() as stack:
        number = 0

        def start(*arguments: str, ready: bool = True) -> WorkerProcess:
            nonlocal number
            number += 1
            log = tmp_path / f"worker-{number}.log"
            roots = [pictures[0].parent, tmp_path]
            worker = stack.enter_context(running_worker(redis_url, connection, net_folder, log, arguments, roots=roots))
            return worker.wait_until_ready() if ready else worker

        yield start
