"""What the producer's tests share: a producer on an empty Redis, and a worker's hand that settles images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

import imagequeue
from imagequeue import Producer
from producer_hand import CommandLine, Settle, settler


@pytest.fixture
def producer(redis_url: str, connection: redis.Redis) -> Iterator[Producer]:
    with Producer(redis_url) as ours:
        yield ours


@pytest.fixture
def settle(connection: redis.Redis) -> Settle:
    return settler(connection)


@pytest.fixture
def program_environment() -> dict[str, str]:
    """The environment of a Python process that finds our packages as this one does."""
    packages = Path(imagequeue.__file__).parents[2]
    paths = os.pathsep.join([str(packages / "producer"), str(packages / "worker")])
    ours = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEQUEUE_")}
    return ours | {"PYTHONPATH": paths, "COLUMNS": "100"}


@pytest.fixture(name="imagequeue")
def command_line(redis_url: str, connection: redis.Redis) -> CommandLine:
    return CommandLine(redis_url)
