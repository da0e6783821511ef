"""`imagequeue status`: queues, collections, workers."""

from __future__ import annotations

import json

import pytest
import redis

from imagequeue import Image, Producer, Status, contract
from producer_hand import CommandLine, Settle


def test_status_counts_queues_and_collections(
    producer: Producer, imagequeue: CommandLine, connection: redis.Redis, settle: Settle
) -> None:
    producer.submit_many([Image(id_, "/x") for id_ in "abc"])
    settle("a")
    settle("b", Status.ERROR)
    connection.sadd(contract.PAUSED_KEY, "classify")
    answer = json.loads(imagequeue("status", "--json").stdout)
    assert answer["queues"][1] == {"name": "classify", "images": 1, "jobs": 1, "paused": True}
    counts = {"accepted": 3, "pending": 1, "ok": 1, "error": 1}
    assert answer["collections"] == [{"name": "default"} | counts]


@pytest.mark.parametrize(("rate", "shown"), [("12.5 1795507687.1", 12.5), ("later: json", None), ("nan 1", None)])
def test_status_names_the_workers_that_are_alive(
    imagequeue: CommandLine, connection: redis.Redis, rate: str, shown: float | None
) -> None:
    prefix = f"{contract.RQ_KEY_PREFIX}:worker:"
    connection.sadd(
        f"{contract.RQ_KEY_PREFIX}:workers",
        f"{prefix}ours",
        f"{prefix}other",
        f"{prefix}dead",
        f"{prefix}gone",
    )
    connection.hset(f"{prefix}ours", mapping={"queues": "classify-high,classify", "state": "busy"})
    connection.hset(f"{prefix}other", mapping={"queues": "mail", "state": "busy"})
    connection.hset(f"{prefix}dead", mapping={"queues": "classify", "state": "idle", "death": "2026-01-01"})
    connection.hset(contract.RATES_KEY, "ours", rate)
    answer = json.loads(imagequeue("status", "--json").stdout)
    served = ["classify-high", "classify"]
    ours = {"name": "ours", "state": "busy", "images_per_second": shown, "queues": served}
    assert answer["workers"] == [ours]
    assert answer["images_per_second"] == (shown or 0)


def test_status_never_unpickles(imagequeue: CommandLine, connection: redis.Redis) -> None:
    bomb = b"cbuiltins\nexit\n(I99\ntR."
    worker = f"{contract.RQ_KEY_PREFIX}:worker:w"
    connection.sadd(f"{contract.RQ_KEY_PREFIX}:workers", worker)
    connection.hset(worker, mapping={"queues": "classify", "state": "busy", "meta": bomb})
    assert imagequeue("status").exit_code == 0


def test_status_tells_when_nobody_works(imagequeue: CommandLine) -> None:
    assert "no worker is alive" in imagequeue("status").stdout
