"""The Producer: what a service holds to submit images and to read what became of them."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from imagequeue.bridge import iterate, run
from imagequeue.connection import redis_url_or_default
from imagequeue.core import Core
from imagequeue.feeds import OwnWatch
from imagequeue.link import Link

P = ParamSpec("P")
T = TypeVar("T")


def _returns(method: Callable[Concatenate[Core, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Producer, P], T]:
    """The core's method, with its signature and description, in the calling thread."""

    @wraps(method)
    def call(self: Producer, /, *arguments: P.args, **options: P.kwargs) -> T:
        return run(method(self._core, *arguments, **options))

    return call


def _yields(
    method: Callable[Concatenate[Core, P], AsyncIterator[T]],
) -> Callable[Concatenate[Producer, P], Iterator[T]]:
    """The same for a method that makes an iterator."""

    @wraps(method)
    def call(self: Producer, /, *arguments: P.args, **options: P.kwargs) -> Iterator[T]:
        return iterate(method(self._core, *arguments, **options))

    shown = inspect.signature(method)
    returned = str(shown.return_annotation).removeprefix("Async")
    call.__signature__ = shown.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return call


class Producer:
    """Submits images and reads their results; thread-safe; a context manager that closes its connections.

    Each method is described where it is written, for this class and `AsyncProducer` alike: `core.py`, and
    `operations.py` for what operators ask for (cancel, requeue, drop, pause …).

    `redis_url` is IMAGEQUEUE_REDIS_URL, else redis://127.0.0.1:6379/0, when not given. `depth_limit` is how
    many images each queue may hold before submitting waits. `patience` is how many seconds Redis may be away
    (a restart, a failover) before a call raises RedisUnavailable; calls are sent again meanwhile, and never
    accept an image twice.

    Raises ConfigurationError; every method may raise RedisUnavailable and RedisRefused, and ContractError for
    a collection, id or reference that the contract does not allow.
    """

    def __init__(self, redis_url: str | None = None, *, depth_limit: int = 100_000, patience: float = 30.0) -> None:
        self._link = Link(redis_url_or_default(redis_url), patience)
        self._core = Core(self._link, depth_limit, partial(OwnWatch, self._link))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._link.close()

    ping = _returns(Core.ping)

    submit = _returns(Core.submit)
    submit_many = _returns(Core.submit_many)
    submit_chunks = _yields(Core.submit_chunks)
    upload = _returns(Core.upload)

    wait = _returns(Core.wait)
    as_completed = _yields(Core.as_completed)
    stream = _yields(Core.stream)
    results = _yields(Core.results)
    result = _returns(Core.result)
    progress = _returns(Core.progress)
    status = _returns(Core.status)
    waiting_time = _returns(Core.waiting_time)

    cancel = _returns(Core.cancel)
    cancel_job = _returns(Core.cancel_job)
    cancel_collection = _returns(Core.cancel_collection)
    drop = _returns(Core.drop)
    forget = _returns(Core.forget)
    dead_letters = _yields(Core.dead_letters)
    requeue = _returns(Core.requeue)
    discard = _returns(Core.discard)
    pause = _returns(Core.pause)
    resume = _returns(Core.resume)
    diagnose = _returns(Core.diagnose)
