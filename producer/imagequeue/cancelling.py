"""Withdrawing images: each ends as `error: cancelled`, through the gate, whoever carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from imagequeue import contract
from imagequeue.calling import Call, call_script
from imagequeue.link import BaseLink, Client
from imagequeue.parts import Items, batches_of, scan

RESULT_SECONDS = 86_400  # as the worker's --result-ttl: a cancelled image has a result like others
IDS_PER_CALL = 1_000  # bounds the time that one call holds Redis


class Canceller:
    """Cancels images over a link; their results live for `result_ttl` seconds."""

    def __init__(self, link: BaseLink, result_ttl: int = RESULT_SECONDS) -> None:
        self._link = link
        self._result_ttl = result_ttl

    async def cancel(self, ids: Items[str], collection: str, *, job: str = "") -> int:
        """Cancel those of the ids that are pending (and carried by `job`, if one is named); return how many."""
        gate = [contract.KEY_PREFIX, contract.RQ_KEY_PREFIX, self._result_ttl, await _fields_expire(self._link)]
        keys, head = [contract.pending_key(collection)], [*gate, collection, job]
        cancelled = 0
        async for batch in batches_of(ids, IDS_PER_CALL):
            while batch:
                bits = await call_script(self._link, Call("cancel", keys, [*head, *batch]))
                cancelled += bits.count(b"1")
                batch = batch[len(bits) :]  # what the script has left for another call
        return cancelled

    async def cancel_job(self, job: str) -> int:
        """Cancel the images that a job still carries; 0 when there is no such job (any more)."""
        fields = ["ids", "collection"]
        ids, collection = await self._link.ask(lambda client: client.hmget(contract.job_key(job), fields))
        if not ids or not collection:
            return 0
        name = contract.check_collection(collection.decode())
        return await self.cancel(filter(None, ids.decode().split("\n")), name, job=job)

    async def cancel_collection(self, collection: str) -> int:
        """Cancel all that is pending; what is submitted meanwhile may or may not be."""
        by_job = await self.cancel(self._ids_by_job(collection), collection)
        # And what its job does not list: other hands were at work.
        parts = scan(self._link, contract.pending_key(collection), IDS_PER_CALL)
        return by_job + await self.cancel((id_.decode() async for part in parts for id_ in part), collection)

    async def _ids_by_job(self, collection: str) -> AsyncIterator[str]:
        """The ids of all jobs that own pending images, job by job, so that each job's request is read once."""
        seen: set[bytes] = set()
        async for part in scan(self._link, contract.pending_key(collection), IDS_PER_CALL):
            owners = sorted(set(part.values()) - seen)
            seen.update(owners)
            for ids in await self._ids_of(owners):
                for id_ in ids.decode().split("\n") if isinstance(ids, bytes) else ():
                    yield id_

    async def _ids_of(self, owners: list[bytes]) -> list[Any]:
        """What their jobs list; None or an error for a job that is gone or damaged."""

        def send(client: Client) -> Any:  # noqa: ANN401
            pipeline = client.pipeline(transaction=False)
            for owner in owners:
                pipeline.hget(contract.job_key(owner.decode(errors="replace").partition("|")[2]), "ids")
            return pipeline.execute(raise_on_error=False)

        return await self._link.ask(send) if owners else []


async def _fields_expire(link: BaseLink) -> str:
    """The gate's question whether hash fields expire: asked of the server, not read off its version."""

    def send(client: Client) -> Any:  # noqa: ANN401
        # One word: of "COMMAND", "INFO" redis-py parses the answer, and fails at that of an unknown command.
        return client.execute_command("COMMAND INFO", "HPEXPIREAT")

    (known,) = await link.ask(send)
    return "0" if known is None else "1"
