"""Removing results that their reader has written down: what keeps Redis small during an ingestion."""

from __future__ import annotations

from collections.abc import Sequence

from imagequeue import contract
from imagequeue.calling import Call, call_script
from imagequeue.contract import Result
from imagequeue.link import BaseLink
from imagequeue.parts import batches

RESULTS_PER_CALL = 1_000  # bounds the time that one call holds Redis


async def forget_results(link: BaseLink, collection: str, results: Sequence[Result], entry: str) -> int:
    """Remove them from Redis, and the completion entries before `entry`; return how many went.

    A result that has been replaced meanwhile stays.
    """
    keys = [contract.results_key(collection), contract.completed_key(collection)]
    forgotten = 0
    for batch in batches(results, RESULTS_PER_CALL):
        pairs = [cell for result in batch for cell in (result.id, result.entry)]
        forgotten += await call_script(link, Call("forget", keys, [entry, *pairs]))
    return forgotten
