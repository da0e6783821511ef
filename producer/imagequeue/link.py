"""A connection that outlives a restart of Redis: what may be sent twice is sent until it is answered."""

from __future__ import annotations

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

import redis
from redis.exceptions import ClusterCrossSlotError as CrossSlotError
from redis.exceptions import InvalidResponse, NoPermissionError

from imagequeue.bridge import answered, run
from imagequeue.connection import PASSES, UNAVAILABLE, backoff, connect, connect_async, redact, redis_errors
from imagequeue.errors import ConfigurationError, RedisRefused

VERSION_MIN = "6.2"

T = TypeVar("T")

Client = Any
"""One of redis-py's two clients. `Any`, since its stubs cannot know that answers come undecoded, as bytes."""

Send = Callable[[Client], Any]
"""Asks a client, and returns its answer, or what is to be awaited for it."""


class BaseLink(ABC):
    """Redis at one URL, which may be away for `patience` seconds before a call gives up.

    `client` is for commands that are answered at once, `reader` for those that block in Redis.
    """

    client: Client
    reader: Client

    def __init__(self, url: str, patience: float) -> None:
        if not patience >= 0:
            raise ConfigurationError(f"patience is {patience} s; must be 0 or more")
        self.url = url
        self.patience = patience

    async def ask(self, send: Send, *, within: float = math.inf, blocks: bool = False) -> Any:  # noqa: ANN401
        """What `send` answers; it may be called again, for as long as patience and `within` seconds last.

        `blocks` says that Redis may take its time to answer. Raises RedisUnavailable or RedisRefused.
        """
        client = self.reader if blocks else self.client
        deadline = time.monotonic() + min(self.patience, within)
        pauses = backoff()
        with redis_errors(self.url), _refusals(self.url):
            while True:
                try:
                    return await answered(send(client))
                except PASSES as error:
                    pause = next(pauses)
                    if isinstance(error, redis.AuthenticationError) or time.monotonic() + pause > deadline:
                        raise
                    if isinstance(error, redis.ReadOnlyError):
                        await answered(client.connection_pool.disconnect())  # ask again where the address leads
                await self.pause(pause)

    @abstractmethod
    def one_connection(self) -> AbstractAsyncContextManager[Client]:
        """A client that sends all its commands over one connection."""

    @abstractmethod
    async def blocking(self, work: Callable[[Link], T]) -> T:
        """Do what is written for a link that blocks: an operator's tool, rare and slow."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Let time pass."""


class Link(BaseLink):
    """The link that blocks its thread until Redis has answered; thread-safe."""

    def __init__(self, url: str, patience: float) -> None:
        super().__init__(url, patience)
        # Resending is decided here, in one place, and not by redis-py as well.
        self.client = self.reader = connect(url, resend=False)

    def call(self, send: Send, *, within: float = math.inf) -> Any:  # noqa: ANN401  whatever Redis answers
        """`ask`, for callers that are no coroutines."""
        return run(self.ask(send, within=within))

    @asynccontextmanager
    async def one_connection(self) -> AsyncIterator[Client]:
        """It goes back to the others at the end."""
        with self.client.client() as client:
            yield client

    async def blocking(self, work: Callable[[Link], T]) -> T:
        """Do it here and now."""
        return work(self)

    async def pause(self, seconds: float) -> None:
        """Block the thread."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self.client.close()


class AsyncLink(BaseLink):
    """The link of one event loop. Thousands of calls share a few connections; each blocking read has its own."""

    def __init__(self, url: str, patience: float, connections: int) -> None:
        super().__init__(url, patience)
        if connections < 1:
            raise ConfigurationError(f"connections is {connections}; must be 1 or more")
        self.client = connect_async(url, connections)
        self.reader = connect_async(url)

    async def ask(self, send: Send, *, within: float = math.inf, blocks: bool = False) -> Any:  # noqa: ANN401
        """As above; raise a cancellation that was lost in `asyncio.wait_for`, as Python 3.11's does, under redis-py."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        answer = await super().ask(send, within=within, blocks=blocks)
        if task and task.cancelling() > before:
            raise asyncio.CancelledError
        return answer

    @asynccontextmanager
    async def one_connection(self) -> AsyncIterator[Client]:
        """It goes back to the others at the end."""
        async with self.client.client() as client:
            yield client

    async def blocking(self, work: Callable[[Link], T]) -> T:
        """Do it in a thread, over a link of its own."""
        link = Link(self.url, self.patience)
        try:
            return await asyncio.to_thread(work, link)
        finally:
            link.close()

    async def pause(self, seconds: float) -> None:
        """Let other tasks run."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self.client.aclose()
        await self.reader.aclose()


async def check_server(link: BaseLink) -> None:
    """Raise RedisUnavailable at once, without patience, when Redis does not answer, and RedisRefused when it is old."""
    info = await link.ask(lambda client: client.info("server"), within=0)
    if is_too_old(info):
        version = info.get("redis_version")
        raise RedisRefused(f"Redis at {redact(link.url)} is version {version}; update it to {VERSION_MIN} or newer")


def is_too_old(info: Mapping[str, Any]) -> bool:
    """Whether INFO is that of a server below VERSION_MIN; Valkey names the Redis that it is compatible with."""
    return _numbers(str(info.get("redis_version", "0"))) < _numbers(VERSION_MIN)


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    try:
        yield
    except UNAVAILABLE:
        raise
    except CrossSlotError as error:
        raise RedisRefused(
            f"Redis at {redact(url)} is a cluster, and our keys are not in one slot; set RQ_KEY_PREFIX={{rq}} and "
            "IMAGEQUEUE_KEY_PREFIX={rq}:imagequeue for every producer and worker"
        ) from error
    except InvalidResponse as error:
        raise RedisRefused(
            f"what listens at {redact(url)} is no Redis ({error}); name yours with --redis-url or IMAGEQUEUE_REDIS_URL"
        ) from error
    except NoPermissionError as error:
        raise RedisRefused(
            f"Redis at {redact(url)} refused: {error}; grant what `imagequeue doctor --role` names, or log in as "
            "somebody who may (deploy/redis/users.acl)"
        ) from error
    except redis.RedisError as error:
        remedy = ""
        if "unknown command" in str(error).lower():
            remedy = f"; update it to {VERSION_MIN} or newer, or enable the command again"
        raise RedisRefused(f"Redis at {redact(url)} refused: {error}{remedy}") from error
