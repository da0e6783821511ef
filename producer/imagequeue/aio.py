"""The producer of an event loop."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from imagequeue.connection import redis_url_or_default
from imagequeue.core import Core
from imagequeue.feeds import Feeds
from imagequeue.link import AsyncLink


class AsyncProducer(Core):
    """`Producer` for asyncio: the same names, to be awaited, or iterated over with `async for`; `async with` closes it.

        async with AsyncProducer() as producer:
            submission = await producer.submit_many(["/data/cat.jpg"])
            async for result in producer.as_completed(submission.ids): ...

    Any number of calls may run at once: they share `connections` connections. Who waits for images of one collection
    shares one reader of its completion stream, and each `stream()` has a connection of its own. A cancelled call leaves
    no answer behind that another one could get. Of one event loop; the other parameters and the errors are
    `Producer`'s, and iterables of references and ids may be asynchronous.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        depth_limit: int = 100_000,
        patience: float = 30.0,
        connections: int = 16,
    ) -> None:
        link = AsyncLink(redis_url_or_default(redis_url), patience, connections)
        self._feeds = Feeds(link)
        super().__init__(link, depth_limit, self._feeds.watch)
        self._own_link = link

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; who still waits gets an error, and a later call opens new ones."""
        await self._feeds.close()
        await self._own_link.close()
