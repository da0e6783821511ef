"""What an operator asks of the queue; every producer can."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from imagequeue import contract, pausing
from imagequeue.cancelling import RESULT_SECONDS, Canceller
from imagequeue.contract import DEFAULT_COLLECTION, Priority, Result
from imagequeue.dead_letters import DeadLetter, Letter, check_code, discard_letters, read_letters
from imagequeue.dropping import drop_collection
from imagequeue.errors import ConfigurationError
from imagequeue.forgetting import forget_results
from imagequeue.link import BaseLink
from imagequeue.orders import OnFull, Order
from imagequeue.parts import Items
from imagequeue.requeueing import Requeued, requeue_letters
from imagequeue.roles import Role
from imagequeue.streaming import as_entry
from imagequeue.submitting import Submitter

if TYPE_CHECKING:
    from imagequeue.doctor import Diagnosis


class Operations:
    """Cancelling, dead letters, dropping, pausing and the doctor, over one link."""

    _link: BaseLink
    _submitter: Submitter

    # --- withdrawing ----------------------------------------------------------------------------------------

    async def cancel(
        self, ids: Items[str], *, collection: str = DEFAULT_COLLECTION, result_ttl: int = RESULT_SECONDS
    ) -> int:
        """End those of the images that have no result yet as `error: cancelled`; return how many.

        Also those that a worker is classifying: its answer will be dropped. The result lives for `result_ttl` seconds.
        After a lost connection the call is sent again, and may return fewer than it has cancelled.
        """
        contract.check_collection(collection)
        return await self._canceller(result_ttl).cancel(ids, collection)

    async def cancel_job(self, job: str, *, result_ttl: int = RESULT_SECONDS) -> int:
        """Cancel the images that a job (`Receipt.job`) still carries; return how many."""
        return await self._canceller(result_ttl).cancel_job(job)

    async def cancel_collection(self, collection: str, *, result_ttl: int = RESULT_SECONDS) -> int:
        """Cancel every image of a collection that has no result yet; return how many.

        Images that are submitted meanwhile may escape.
        """
        return await self._canceller(result_ttl).cancel_collection(contract.check_collection(collection))

    async def drop(self, collection: str) -> int:
        """Remove a finished collection whole, results and counters; return how many results it had.

        Raises CollectionBusy while images are pending.
        """
        return await drop_collection(self._link, contract.check_collection(collection))

    async def forget(self, results: Sequence[Result], entry: str, *, collection: str = DEFAULT_COLLECTION) -> int:
        """Remove results that their reader has elsewhere, and the entries before `entry`; return how many results went.

        `entry` is how far the reader has read (`stream`). One that has been replaced since it was read stays. For who
        submits more than Redis should keep, and owns the collection: forgotten images can be submitted once more.
        """
        as_entry(entry)
        return await forget_results(self._link, contract.check_collection(collection), results, entry)

    # --- dead letters ---------------------------------------------------------------------------------------

    def dead_letters(
        self, ids: Items[str] | None = None, *, collection: str = DEFAULT_COLLECTION, code: str | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Images that ended in an error and can be requeued: all of a collection, or of the ids; with this code."""
        letters = self._letters(ids, collection, code)
        return (letter.shown(collection) async for letter in letters)

    async def requeue(
        self,
        ids: Items[str] | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        code: str | None = None,
        priority: str = Priority.NORMAL,
        on_full: OnFull = "wait",
        timeout: float | None = None,
    ) -> Requeued:
        """Run dead letters again, as new acceptances: all of a collection, or of the ids; with this code.

        Their results go; model, classes and expiry are those of the first request. Raises QueueFull as `submit` does;
        what was requeued before stays so.
        """
        order = Order(collection, priority, on_full=on_full, timeout=timeout)
        return await requeue_letters(self._submitter, self._letters(ids, collection, code), order)

    async def discard(
        self, ids: Items[str] | None = None, *, collection: str = DEFAULT_COLLECTION, code: str | None = None
    ) -> int:
        """Forget dead letters: their results stay and cannot be requeued any more; return how many."""
        return await discard_letters(self._link, collection, self._letters(ids, collection, code))

    # --- queues and server ----------------------------------------------------------------------------------

    async def pause(self, queue: str) -> bool:
        """Let workers take nothing more from a queue; what they hold they finish. False if it was paused already."""
        return await pausing.pause_queue(self._link, queue)

    async def resume(self, queue: str) -> bool:
        """Let workers take from a queue again. False if it was not paused."""
        return await pausing.resume_queue(self._link, queue)

    async def diagnose(self, role: Role = Role.OPERATOR) -> Diagnosis:
        """Look for what is wrong with the server and the queue; `role` is what this user is meant to do."""
        from imagequeue.doctor import examine  # not what a service imports

        return await self._link.blocking(lambda link: examine(link, role))

    # --- parts ----------------------------------------------------------------------------------------------

    def _letters(self, ids: Items[str] | None, collection: str, code: str | None) -> AsyncIterator[Letter]:
        contract.check_collection(collection)
        return read_letters(self._link, collection, ids, check_code(code))

    def _canceller(self, result_ttl: int) -> Canceller:
        if result_ttl < 1:
            raise ConfigurationError(f"result_ttl is {result_ttl} s; must be 1 or more")
        return Canceller(self._link, result_ttl)
