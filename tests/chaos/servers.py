"""A server that is started again: it answers INFO long before it has loaded its data."""

from __future__ import annotations

import time

from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis

LOAD_SECONDS = 120.0


def start_and_load(server: EmbeddedRedis) -> None:
    """Start it, and return when it has read its append-only file."""
    server.start()
    deadline = time.monotonic() + LOAD_SECONDS
    with connect(server.url, resend=False) as client:
        while client.info("persistence")["loading"]:
            if time.monotonic() > deadline:
                raise AssertionError("the server does not finish loading")
            time.sleep(0.001)
