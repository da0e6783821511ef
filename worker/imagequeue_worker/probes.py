"""What /livez and /readyz answer, and the question that `imagequeue-worker probe` asks.

Live: replacing the command would not help. A process that ends is replaced by its supervisor, so only one that hangs
counts. Ready: a process has taken its place in the fleet, and Redis answers.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import redis

from imagequeue_worker.outage import passes
from imagequeue_worker.vitals import BEAT_LATE_SECONDS, Vitals, VitalsBoard

PROBE_SECONDS: Final = 5.0


class Probe(StrEnum):
    """What may be asked."""

    LIVE = "live"
    READY = "ready"

    @property
    def path(self) -> str:
        """Its page."""
        return f"/{self}z"


Problem = str | None
"""Why the answer is no; None when it is yes."""
Ask = Callable[[], Problem]


def why_not_live(board: VitalsBoard, *, stall_timeout_seconds: float) -> Problem:
    """Whether a worker process's loop is later than its deadline."""
    now = time.monotonic()
    for vitals in board:
        if vitals.pid and (seconds := _late_seconds(vitals, now)) > stall_timeout_seconds + BEAT_LATE_SECONDS:
            return f"the loop of process {vitals.pid} has not turned for {seconds:.0f} s"
    return None


def why_not_ready(board: VitalsBoard, ping: Ask) -> Problem:
    """Whether nothing would take an image that is submitted now."""
    if board.ending:
        return "told to stop"
    if not processes_ready(board):
        return "no worker process has begun to work yet"
    return ping()


def processes_ready(board: VitalsBoard) -> int:
    """The number of processes that run and have been answered by Redis as workers."""
    return sum(1 for vitals in board if vitals.pid and vitals.answered_at)


def why_no_redis(connection: redis.Redis) -> Problem:
    """Whether Redis cannot be reached just now."""
    try:
        connection.ping()
    except redis.RedisError as error:
        # Its own words may name a host; the kind of the error says what an operator needs.
        return f"Redis {'is away' if passes(error) else 'refuses'}: {type(error).__name__}"
    return None


def _late_seconds(vitals: Vitals, now: float) -> float:
    """How long nothing has moved: since the start, the last beat, or longer if the loop was late already then."""
    return now - max(vitals.started_at, vitals.beat_at) + vitals.overdue_seconds


def ask(host: str, port: int, probe: Probe) -> Problem:
    """Ask a command on this machine for its page."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  where it listens
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", probe.path)
        response = connection.getresponse()
        text = response.read(1000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"nobody answers at {host}:{port} ({error or type(error).__name__})"
    finally:
        connection.close()
    return None if response.status == http.HTTPStatus.OK else text or f"HTTP {response.status}"
