"""Withdrawing images: each ends as `error: cancelled`, through the gate, whoever carries it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from imagequeue import contract
from imagequeue.link import Link
from imagequeue.parts import batches, scan
from imagequeue.scripts import script_text

RESULT_SECONDS = 86_400  # as the worker's --result-ttl: a cancelled image has a result like others
IDS_PER_CALL = 1_000  # bounds the time that one call holds Redis


class Canceller:
    """Cancels images over a link; their results live for `result_ttl` seconds."""

    def __init__(self, link: Link, result_ttl: int = RESULT_SECONDS) -> None:
        self._link = link
        self._result_ttl = result_ttl
        self._script = link.client.register_script(script_text("cancel"))

    def cancel(self, ids: Iterable[str], collection: str, *, job: str = "") -> int:
        """Cancel those of the ids that are pending (and carried by `job`, if one is named); return how many."""
        gate = [contract.KEY_PREFIX, contract.RQ_KEY_PREFIX, self._result_ttl, _fields_expire(self._link)]
        head = [*gate, collection, job]
        cancelled = 0
        for batch in batches(ids, IDS_PER_CALL):
            while batch:
                bits = self._call(collection, [*head, *batch])
                cancelled += bits.count(b"1")
                batch = batch[len(bits) :]  # what the script has left for another call
        return cancelled

    def _call(self, collection: str, arguments: list[Any]) -> bytes:
        keys = [contract.pending_key(collection)]
        bits: bytes = self._link.call(lambda _: self._script(keys=keys, args=arguments))
        return bits

    def cancel_job(self, job: str) -> int:
        """Cancel the images that a job still carries; 0 when there is no such job (any more)."""
        ids, collection = self._link.call(lambda client: client.hmget(contract.job_key(job), ["ids", "collection"]))
        if not ids or not collection:
            return 0
        name = contract.check_collection(collection.decode())
        return self.cancel(filter(None, ids.decode().split("\n")), name, job=job)

    def cancel_collection(self, collection: str) -> int:
        """Cancel all that is pending; what is submitted meanwhile may or may not be."""
        by_job = self.cancel(self._ids_by_job(collection), collection)
        # And what its job does not list: other hands were at work.
        parts = scan(self._link, contract.pending_key(collection), IDS_PER_CALL)
        return by_job + self.cancel((id_.decode() for part in parts for id_ in part), collection)

    def _ids_by_job(self, collection: str) -> Iterator[str]:
        """The ids of all jobs that own pending images, job by job, so that each job's request is read once."""
        seen: set[bytes] = set()
        for part in scan(self._link, contract.pending_key(collection), IDS_PER_CALL):
            owners = sorted(set(part.values()) - seen)
            seen.update(owners)
            for ids in self._ids_of(owners):
                if isinstance(ids, bytes):
                    yield from ids.decode().split("\n")

    def _ids_of(self, owners: list[bytes]) -> list[Any]:
        """What their jobs list; None or an error for a job that is gone or damaged."""

        def send(client: Any) -> list[Any]:  # noqa: ANN401  redis-py's
            pipeline = client.pipeline(transaction=False)
            for owner in owners:
                pipeline.hget(contract.job_key(owner.decode(errors="replace").partition("|")[2]), "ids")
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers

        return self._link.call(send) if owners else []


def _fields_expire(link: Link) -> str:
    """The gate's question whether hash fields expire: asked of the server, not read off its version."""

    def send(client: Any) -> Any:  # noqa: ANN401  redis-py's
        # One word: of "COMMAND", "INFO" redis-py parses the answer, and fails at that of an unknown command.
        return client.execute_command("COMMAND INFO", "HPEXPIREAT")

    (known,) = link.call(send)
    return "0" if known is None else "1"
