"""A producer, two workers' protocols on one Redis, and the invariant after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rq import Worker
from rq.serializers import JSONSerializer

from imagequeue import Producer
from imagequeue.contract import QUEUES
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Protocol
from queue_state import LEASE_SECONDS, RESULT_TTL, check_invariants, fields_expire, submit


@pytest.fixture
def producer(redis_url: str, connection: redis.Redis) -> Iterator[Producer]:
    with Producer(redis_url) as ours:
        yield ours
        check_invariants(connection)


@pytest.fixture
def operator(redis_url: str, connection: redis.Redis) -> Iterator[Producer]:
    """A producer that lets images run more than once."""
    with Producer(redis_url) as ours:
        yield ours
        check_invariants(connection, resubmitted=True)


@pytest.fixture
def worker(connection: redis.Redis) -> Protocol:
    return Protocol(connection, "w1", QUEUES, lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)


@pytest.fixture
def other(connection: redis.Redis) -> Protocol:
    return Protocol(connection, "w2", QUEUES, lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)


@pytest.fixture
def registered(connection: redis.Redis) -> Worker:
    """RQ knows w1."""
    known = Worker(list(QUEUES), name="w1", connection=connection, serializer=JSONSerializer)
    known.register_birth()
    return known


@pytest.fixture
def server_without_field_expiry(tmp_path: Path, connection: redis.Redis) -> Iterator[EmbeddedRedis]:
    """A server as Redis 6.2 and 7.0 are: its hash fields cannot expire."""
    rules = tmp_path / "without.conf"
    rules.write_text('rename-command HPEXPIREAT ""\n' if fields_expire(connection) else "")
    with EmbeddedRedis(tmp_path / "server", options={"include": str(rules)}) as server:
        yield server


@pytest.fixture
def job(producer: Producer, worker: Protocol) -> TakenJob:
    """A job of a and b that `worker` holds."""
    submit(producer, "a", "b")
    return worker.take(64).jobs[0]
