"""Hearing which images are finished, without asking again and again: by reading a collection's completion stream.

A thread that waits reads the stream itself. In an event loop all who wait for images of one collection share one
reader, so a thousand of them need one connection.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import Protocol
from weakref import WeakValueDictionary

from imagequeue.errors import ImageQueueError
from imagequeue.link import BaseLink
from imagequeue.streaming import START, Entry, News, read_news, stream_end

FEW_IDS = 1_000  # above, a table of ids would be larger than what it saves


class Watch(Protocol):
    """Somebody who waits for images of a collection. Nothing that is published after `begin` is missed."""

    async def begin(self, ids: Collection[str]) -> None:
        """Listen from now on."""

    async def news(self, seconds: float) -> Iterable[str] | None:
        """Ids that were finished since the last call, after some seconds none; None: look for all of them again."""

    def end(self) -> None:
        """Listen no more."""


WatchOf = Callable[[str], Watch]
"""Makes a watch over the collection of this name."""


class OwnWatch:
    """A thread's: it reads the stream itself, ids of others included."""

    def __init__(self, link: BaseLink, collection: str) -> None:
        self._link = link
        self._collection = collection
        self._cursor: Entry = START

    async def begin(self, ids: Collection[str]) -> None:  # noqa: ARG002  it hears all
        """Note where the stream ends."""
        self._cursor = await stream_end(self._link, self._collection)

    async def news(self, seconds: float) -> Iterable[str] | None:
        """Read on."""
        news = await read_news(self._link, self._collection, self._cursor, seconds)
        self._cursor = news.cursor
        return news.ids.values() if news.complete else None

    def end(self) -> None:
        """There is nothing to give back."""


class Feeds:
    """The feeds of an event loop, by collection."""

    def __init__(self, link: BaseLink) -> None:
        self._link = link
        # A feed lives as long as somebody watches or its task runs: collections may be many.
        self._feeds: WeakValueDictionary[str, Feed] = WeakValueDictionary()

    def watch(self, collection: str) -> SharedWatch:
        """A watch that is told by the collection's feed."""
        feed = self._feeds.get(collection)
        if feed is None:
            feed = self._feeds[collection] = Feed(self._link, collection)
        return SharedWatch(feed)

    async def close(self) -> None:
        """Stop them all."""
        for feed in list(self._feeds.values()):
            await feed.close()


class Feed:
    """The one reader of a collection's stream; it reads while somebody watches, and some seconds longer."""

    def __init__(self, link: BaseLink, collection: str) -> None:
        self._link = link
        self._collection = collection
        self._watches: set[SharedWatch] = set()
        self._by_id: dict[str, set[SharedWatch]] = {}  # those with few ids
        self._wide: set[SharedWatch] = set()  # the others, who look for themselves
        self._starting = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def join(self, watch: SharedWatch) -> None:
        """Tell this watch what is published from now on."""
        self._watches.add(watch)
        if len(watch.ids) > FEW_IDS:
            self._wide.add(watch)
        else:
            for id_ in watch.ids:
                self._by_id.setdefault(id_, set()).add(watch)
        async with self._starting:
            if self._task is None:
                cursor = await stream_end(self._link, self._collection)
                self._task = asyncio.create_task(self._read_on(cursor), name=f"imagequeue feed of {self._collection}")

    def leave(self, watch: SharedWatch) -> None:
        """Tell it nothing more."""
        self._watches.discard(watch)
        self._wide.discard(watch)
        for id_ in watch.ids if len(watch.ids) <= FEW_IDS else ():
            watches = self._by_id.get(id_, set())
            watches.discard(watch)
            if not watches:
                self._by_id.pop(id_, None)

    async def close(self) -> None:
        """Stop reading; who still watches gets an error."""
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _read_on(self, cursor: Entry) -> None:
        try:
            while True:
                news = await read_news(self._link, self._collection, cursor, math.inf)
                cursor = news.cursor
                if not self._watches:
                    return
                self._tell(news)
        except asyncio.CancelledError:
            self._fail(ImageQueueError("the producer was closed; what it waited for stays accepted: wait again"))
            raise
        except Exception as error:  # whatever it is, it is theirs who wait
            self._fail(error)
        finally:
            self._task = None

    def _tell(self, news: News) -> None:
        if not news.complete:
            for watch in self._watches:
                watch.tell_all()
        for id_ in news.ids.values():
            for watch in self._by_id.get(id_, ()):
                watch.tell(id_)
        for watch in self._wide:
            for id_ in watch.ids.intersection(news.ids.values()):
                watch.tell(id_)

    def _fail(self, error: Exception) -> None:
        for watch in self._watches:
            watch.fail(error)


class SharedWatch:
    """A task's: the feed tells it about its own ids."""

    def __init__(self, feed: Feed) -> None:
        self.ids: frozenset[str] = frozenset()
        self._feed = feed
        self._heard = asyncio.Event()
        self._told: list[str] = []
        self._look_again = False
        self._error: Exception | None = None

    async def begin(self, ids: Collection[str]) -> None:
        """Join the feed."""
        self.ids = frozenset(ids)
        await self._feed.join(self)

    async def news(self, seconds: float) -> Iterable[str] | None:
        """Wait to be told."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if math.isinf(seconds) else seconds):
                await self._heard.wait()
        if self._error is not None:
            raise self._error.with_traceback(None)  # the same one for all who wait
        told, look_again = self._told, self._look_again
        self._told, self._look_again = [], False
        self._heard.clear()
        return None if look_again else told

    def end(self) -> None:
        """Leave the feed."""
        self._feed.leave(self)

    def tell(self, id_: str) -> None:
        """This image is finished."""
        self._told.append(id_)
        self._heard.set()

    def tell_all(self) -> None:
        """Any of its images may be finished."""
        self._look_again = True
        self._heard.set()

    def fail(self, error: Exception) -> None:
        """There will be no more news."""
        self._error = error
        self._heard.set()
