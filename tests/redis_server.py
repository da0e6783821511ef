"""The Redis that tests run on: a real server per pytest process.

`IMAGEQUEUE_REDIS_SERVER=/usr/bin/redis-server` runs the tests on another server binary.
`IMAGEQUEUE_TEST_REDIS_URL=redis://host:6379/8` runs them on a server that is already there: **the database is
emptied before every test**, and the n-th pytest-xdist process uses the n-th database after the named one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
import redis

from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis

EXTERNAL_VARIABLE = "IMAGEQUEUE_TEST_REDIS_URL"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where this process' Redis listens."""
    if external := os.environ.get(EXTERNAL_VARIABLE):
        yield _own_database(external)
        return
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def connection(redis_url: str) -> Iterator[redis.Redis]:
    """A client of an empty Redis; it never resends."""
    with connect(redis_url, resend=False) as client:
        client.flushdb()
        yield client


def _own_database(url: str) -> str:
    process = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    named = re.fullmatch(r"(rediss?://[^/]+)/(\d+)(\?.*)?", url)
    if named is None:
        raise pytest.UsageError(f"{EXTERNAL_VARIABLE} is {url!r}; write redis://host:port/database")
    return f"{named[1]}/{int(named[2]) + process}{named[3] or ''}"
