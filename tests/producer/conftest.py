"""What the producer's tests share: a producer on an empty Redis, and a worker's hand that settles images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

import imagequeue
from imagequeue import Producer, contract
from imagequeue.contract import ClassScore, ErrorCode, Failure, Outcome, Status
from imagequeue.scripts import script_text

Settle = Callable[..., None]

# The real gate: an image leaves pending here exactly as it does under a worker.
_SETTLE = """
local gate = gate_of(ARGV[5])
local owner = redis.call('HGET', gate.pending, ARGV[6])
local queue, job = string.match(owner, '(.*)|(.*)')
publish(gate, queue, job, ARGV[6], ARGV[7], ARGV[8], '')
"""


@pytest.fixture
def producer(redis_url: str, connection: redis.Redis) -> Iterator[Producer]:
    with Producer(redis_url) as ours:
        yield ours


def settler(client: redis.Redis) -> Settle:
    """Returns `settle(id, status=OK, collection="default")`, which publishes a pending image."""
    script = client.register_script("\n".join([*map(script_text, ("clock", "types", "gate")), _SETTLE]))

    def settle(id_: str, status: Status = Status.OK, collection: str = "default") -> None:
        ok = status is Status.OK
        outcome = Outcome(
            id=id_,
            ref=f"/pictures/{id_}.jpg",
            status=status,
            classes=(ClassScore(281, "n02123045", "tabby, tabby cat", 0.75),) if ok else (),
            error=None if ok else Failure(ErrorCode.NOT_FOUND, "nothing is there"),
        )
        prefixes = [contract.KEY_PREFIX, contract.RQ_KEY_PREFIX, 3600, "0"]
        script(keys=[], args=[*prefixes, collection, id_, status, contract.encode_outcome(outcome)])

    return settle


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


def wait_for_command(monitor: redis.client.Monitor, name: str) -> None:
    """Return when the server runs a command of this name; `monitor` was entered before it was sent."""
    for command in monitor.listen():
        if command["command"].upper().startswith(name):
            return
