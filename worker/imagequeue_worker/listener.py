"""Hears the commands that RQ's tools publish for this worker, and goes on hearing them whatever happens to Redis.

RQ's own listener ends for good with a timeout or an answer that is an error, and never notices a connection whose other
side is gone without a word. This one asks for a sign of life and subscribes anew when there is none.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import redis
import structlog

from imagequeue.connection import backoff
from imagequeue_worker.outage import BACKOFF_LAST_SECONDS, Outage, passes

log = structlog.get_logger("imagequeue_worker.listener")

PING_EVERY_SECONDS: Final = 1.0
SILENT_SECONDS: Final = 3.0  # commands are obeyed within 5 s of Redis' return

Handle = Callable[[dict[str, Any]], None]
"""Obeys one message; must not raise."""


class Listener(threading.Thread):
    """Owns the subscription. Start it before the worker is known to RQ: who finds a worker may command it."""

    def __init__(self, connection: redis.Redis, channel: str, handle: Handle, outage: Outage) -> None:
        super().__init__(name="commands", daemon=True)
        self._connection = connection
        self._channel = channel
        self._handle = handle
        self._outage = outage
        self._ending = threading.Event()
        self._subscribed = threading.Event()
        self._away = False

    def wait_until_subscribed(self, seconds: float) -> bool:
        """Whether the subscription stands; it comes later when Redis is away."""
        return self._subscribed.wait(seconds)

    def stop(self) -> None:
        """Let the thread end."""
        self._ending.set()

    def run(self) -> None:
        """Listen until stopped; every failure is waited out."""
        pauses = backoff(BACKOFF_LAST_SECONDS)
        while not self._ending.is_set():
            try:
                self._listen()
            except Exception as error:
                if self._subscribed.is_set():
                    pauses = backoff(BACKOFF_LAST_SECONDS)
                self._subscribed.clear()
                if passes(error):
                    self._away = True
                    self._outage.began(error)
                else:
                    log.error("commands cannot be heard; trying again", error=f"{type(error).__name__}: {error}")
                self._ending.wait(next(pauses))

    def _listen(self) -> None:
        """Subscribe and obey until the connection fails or we are stopped."""
        subscription = self._connection.pubsub()
        try:
            subscription.subscribe(self._channel)
            heard_at = asked_at = time.monotonic()
            while not self._ending.is_set():
                message = subscription.get_message(timeout=PING_EVERY_SECONDS)
                now = time.monotonic()
                if message is not None:
                    heard_at = now
                    self._obey(message)
                elif now - heard_at > SILENT_SECONDS:
                    raise redis.TimeoutError("the subscription is silent")
                if now - asked_at >= PING_EVERY_SECONDS:
                    asked_at = now
                    subscription.ping()
        finally:
            with contextlib.suppress(Exception):
                subscription.close()

    def _obey(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self._subscribed.set()
        elif message["type"] == "pong":  # a server that is still loading lets us subscribe, and refuses this
            if self._away:
                self._away = False
                self._outage.over()
        elif message["type"] == "message":
            self._handle(message)
