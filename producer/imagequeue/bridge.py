"""One core for threads and for asyncio.

What a producer does is written once, as coroutines. Over an `AsyncLink` an event loop runs them. Over a `Link`, whose
calls block and return, they never suspend: one step brings such a coroutine to its end, and no event loop is needed.
So every `await` in the core must lead to a link, and to nothing of asyncio's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterator
from inspect import isawaitable
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine over a blocking link returns; it runs in this thread, now."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine over a blocking link has suspended: it awaits something that is not its link")


def iterate(stream: AsyncIterator[T]) -> Iterator[T]:
    """The items of an asynchronous generator over a blocking link; each is made when it is asked for."""
    try:
        while True:
            try:
                item = run(_next(stream))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if (close := getattr(stream, "aclose", None)) is not None:
            run(close())


async def answered(reply: Any) -> Any:  # noqa: ANN401  redis-py's two clients have the same methods
    """The answer of either of redis-py's clients: the blocking one has it, the other's is awaited."""
    return await reply if isawaitable(reply) else reply


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)
