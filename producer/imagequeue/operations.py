"""What an operator asks of the queue; every Producer can."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imagequeue import contract, pausing
from imagequeue.cancelling import RESULT_SECONDS, Canceller
from imagequeue.contract import DEFAULT_COLLECTION, Priority
from imagequeue.dead_letters import DeadLetter, Letter, check_code, discard_letters, read_letters
from imagequeue.doctor import Diagnosis, examine
from imagequeue.dropping import drop_collection
from imagequeue.errors import ConfigurationError
from imagequeue.link import Link
from imagequeue.orders import OnFull, Order
from imagequeue.requeueing import Requeued, requeue_letters
from imagequeue.roles import Role
from imagequeue.submitting import Submitter


class Operations:
    """Cancelling, dead letters, dropping, pausing and the doctor, over one link."""

    _link: Link
    _submitter: Submitter

    # --- withdrawing ----------------------------------------------------------------------------------------

    def cancel(
        self, ids: Iterable[str], *, collection: str = DEFAULT_COLLECTION, result_ttl: int = RESULT_SECONDS
    ) -> int:
        """End those of the images that have no result yet as `error: cancelled`; return how many.

        Also those that a worker is classifying: its answer will be dropped. The result lives for `result_ttl` seconds.
        After a lost connection the call is sent again, and may return fewer than it has cancelled.
        """
        contract.check_collection(collection)
        return self._canceller(result_ttl).cancel(dict.fromkeys(ids), collection)

    def cancel_job(self, job: str, *, result_ttl: int = RESULT_SECONDS) -> int:
        """Cancel the images that a job (`Receipt.job`) still carries; return how many."""
        return self._canceller(result_ttl).cancel_job(job)

    def cancel_collection(self, collection: str, *, result_ttl: int = RESULT_SECONDS) -> int:
        """Cancel every image of a collection that has no result yet; return how many.

        Images that are submitted meanwhile may escape.
        """
        return self._canceller(result_ttl).cancel_collection(contract.check_collection(collection))

    def drop(self, collection: str) -> int:
        """Remove a finished collection whole, results and counters; return how many results it had.

        Raises CollectionBusy while images are pending.
        """
        return drop_collection(self._link, contract.check_collection(collection))

    # --- dead letters ---------------------------------------------------------------------------------------

    def dead_letters(
        self, ids: Iterable[str] | None = None, *, collection: str = DEFAULT_COLLECTION, code: str | None = None
    ) -> Iterator[DeadLetter]:
        """Images that ended in an error and can be requeued: all of a collection, or of the ids; with this code."""
        return (letter.shown(collection) for letter in self._letters(ids, collection, code))

    def requeue(
        self,
        ids: Iterable[str] | None = None,
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
        return requeue_letters(self._submitter, self._letters(ids, collection, code), order)

    def discard(
        self, ids: Iterable[str] | None = None, *, collection: str = DEFAULT_COLLECTION, code: str | None = None
    ) -> int:
        """Forget dead letters: their results stay and cannot be requeued any more; return how many."""
        return discard_letters(self._link, collection, self._letters(ids, collection, code))

    # --- queues and server ----------------------------------------------------------------------------------

    def pause(self, queue: str) -> bool:
        """Let workers take nothing more from a queue; what they hold they finish. False if it was paused already."""
        return pausing.pause_queue(self._link, queue)

    def resume(self, queue: str) -> bool:
        """Let workers take from a queue again. False if it was not paused."""
        return pausing.resume_queue(self._link, queue)

    def diagnose(self, role: Role = Role.OPERATOR) -> Diagnosis:
        """Look for what is wrong with the server and the queue; `role` is what this user is meant to do."""
        return examine(self._link, role)

    # --- parts ----------------------------------------------------------------------------------------------

    def _letters(self, ids: Iterable[str] | None, collection: str, code: str | None) -> Iterator[Letter]:
        contract.check_collection(collection)
        return read_letters(self._link, collection, ids, check_code(code))

    def _canceller(self, result_ttl: int) -> Canceller:
        if result_ttl < 1:
            raise ConfigurationError(f"result_ttl is {result_ttl} s; must be 1 or more")
        return Canceller(self._link, result_ttl)
