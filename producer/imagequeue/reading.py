"""Results out of Redis: by id, all of a collection, or of those that are waited for as they come."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from imagequeue import contract
from imagequeue.contract import Result, Status
from imagequeue.errors import WaitTimeout
from imagequeue.feeds import Watch
from imagequeue.link import BaseLink, Client
from imagequeue.parts import Items, batches_of, each, read_fields, scan

IDS_PER_CALL = 1_000  # about 1 MB of results; bounds memory here and the time that Redis is held


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection is, in images: `accepted == pending + ok + error` at every instant.

    All but `pending` count since the collection began, results that have expired since included.
    """

    accepted: int
    pending: int
    ok: int
    error: int


async def read_progress(link: BaseLink, collection: str) -> Progress:
    """Count a collection, at one instant."""

    def send(client: Client) -> Any:  # noqa: ANN401
        transaction = client.pipeline(transaction=True)
        transaction.hlen(contract.pending_key(collection))
        transaction.hmget(contract.totals_key(collection), ["accepted", Status.OK, Status.ERROR])
        return transaction.execute()

    pending, totals = await link.ask(send)
    accepted, ok, error = (int(total or 0) for total in totals)
    return Progress(accepted=accepted, pending=pending, ok=ok, error=error)


async def read_results(link: BaseLink, collection: str, ids: Items[str]) -> AsyncIterator[Result]:
    """The results of those ids that have one, in the order given; raise ContractError if unreadable."""
    async for batch in batches_of(ids, IDS_PER_CALL):
        for text in await read_fields(link, contract.results_key(collection), batch):
            if text is not None:
                yield contract.decode_result(text)


async def read_all(link: BaseLink, collection: str) -> AsyncIterator[Result]:
    """Every result of a collection, in no order; results written meanwhile may be missing.

    Remembers the ids: HSCAN may name a field twice while the hash grows. Raises ContractError.
    """
    seen: set[bytes] = set()
    async for found in scan(link, contract.results_key(collection), IDS_PER_CALL):
        for id_, text in found.items():
            if id_ not in seen:
                seen.add(id_)
                yield contract.decode_result(text)


async def completions(
    link: BaseLink, watch: Watch, collection: str, ids: Items[str], timeout: float | None
) -> AsyncIterator[Result]:
    """The result of each id once, as they come; raise WaitTimeout when the time is over before all are there.

    The watch begins before the hash is read, so nothing falls between the two.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    missing = dict.fromkeys([id_ async for id_ in each(ids)])
    try:
        await watch.begin(missing)
        finished: Iterable[str] = list(missing)
        while True:
            async for result in read_results(link, collection, finished):
                if result.id in missing:
                    del missing[result.id]
                    yield result
            if not missing:
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(
                    f"{len(missing)} images have no result after {timeout:g} s; they stay accepted: wait longer, "
                    "or see that workers run (`imagequeue status`)",
                    tuple(missing),
                )
            told = await watch.news(left)
            finished = list(missing) if told is None else [id_ for id_ in told if id_ in missing]
    finally:
        watch.end()
