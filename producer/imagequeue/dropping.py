"""Removing a finished collection whole: its results, completions, counters and dead letters."""

from __future__ import annotations

from imagequeue import contract
from imagequeue.calling import Call, call_script
from imagequeue.errors import CollectionBusy
from imagequeue.link import BaseLink


async def drop_collection(link: BaseLink, collection: str) -> int:
    """Remove it; return how many results it had. Raises CollectionBusy while it has pending images."""
    keys = [
        contract.pending_key(collection),
        contract.results_key(collection),
        contract.completed_key(collection),
        contract.totals_key(collection),
        contract.dead_key(collection),
        contract.COLLECTIONS_KEY,
    ]
    pending, removed = await call_script(link, Call("drop", keys, [collection]))
    if pending:
        raise CollectionBusy(
            f"{collection} has {pending} pending images; wait for them, or cancel them "
            f"(`imagequeue cancel --all --collection {collection}`), then drop it"
        )
    return int(removed)
