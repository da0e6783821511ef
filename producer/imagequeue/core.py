"""What every producer can, written once: `Producer` runs it in the calling thread, `AsyncProducer` in an event loop."""

from __future__ import annotations

import hashlib
import math
from collections.abc import AsyncIterator, Sequence

from imagequeue import contract, reading
from imagequeue.contract import DEFAULT_COLLECTION, IMAGES_PER_JOB, Image, Priority, Result
from imagequeue.errors import ConfigurationError, ImageQueueError, WaitTimeout
from imagequeue.estimating import read_waiting_time
from imagequeue.feeds import WatchOf
from imagequeue.link import BaseLink, check_server
from imagequeue.operations import Operations
from imagequeue.orders import (
    OnFull,
    Order,
    Receipt,
    Reference,
    Submission,
    as_image,
    check_timeout,
    chunked,
    windows,
)
from imagequeue.parts import Items, each
from imagequeue.reading import Progress
from imagequeue.status import QueueStatus, read_status
from imagequeue.streaming import as_entry, published
from imagequeue.submitting import BLOB_SECONDS, Accepted, Submitter


class Core(Operations):
    """Submitting and reading over one link. What operators ask for is in `operations.py`.

    `watch_of` makes what hears of finished images (see `feeds.py`).
    """

    def __init__(self, link: BaseLink, depth_limit: int, watch_of: WatchOf) -> None:
        self._link = link
        self._submitter = Submitter(link, depth_limit)
        self._watch_of = watch_of

    async def ping(self) -> None:
        """Raise RedisUnavailable at once, without patience, when Redis does not answer; RedisRefused if it is old."""
        await check_server(self._link)

    # --- submitting -----------------------------------------------------------------------------------------

    async def submit(
        self,
        ref: Reference,
        *,
        id: str | None = None,  # noqa: A002  the word of the contract
        collection: str = DEFAULT_COLLECTION,
        priority: str = Priority.NORMAL,
        model: str | None = None,
        top_k: int = 5,
        expires_in: float | None = None,
        on_full: OnFull = "wait",
        timeout: float | None = None,
        resubmit: bool = False,
        durable: bool = False,
        replicas: int = 0,
    ) -> Receipt:
        """Submit one image; return when Redis has it.

        `ref` is sent as it is when it is a string; a `pathlib.Path` becomes absolute. `id` defaults to a hash
        of the reference; an id that is waiting or has a result is not accepted again, and that is no error.
        `model=None` is the workers' first net. After `expires_in` seconds in the queue the image ends as
        `error: expired`. A full queue is waited for up to `timeout` seconds, or refused at once with
        `on_full="raise"`.

        `resubmit=True` runs an id that has a result afresh: the result goes, and a new one will come. With
        `durable=True` Redis has synced the image to its disk, and `replicas` of its replicas have it, before this
        returns (see `durability.py`).

        Raises QueueFull, BlobMissing for a `blob:` reference whose bytes are not there, and DurabilityUnavailable.
        """
        order = Order(collection, priority, model, top_k, expires_in, on_full, timeout, resubmit, durable, replicas)
        image = as_image(ref)
        if id is not None:
            image = as_image(Image(id=id, ref=image.ref))
        answer = await self._submitter.submit((image,), order)
        accepted = answer.new[image.id]
        return Receipt(image.id, accepted, answer.job if accepted else None, collection)

    async def submit_many(
        self,
        refs: Items[Reference],
        *,
        chunk: int = IMAGES_PER_JOB,
        collection: str = DEFAULT_COLLECTION,
        priority: str = Priority.NORMAL,
        model: str | None = None,
        top_k: int = 5,
        expires_in: float | None = None,
        on_full: OnFull = "wait",
        timeout: float | None = None,
        resubmit: bool = False,
        durable: bool = False,
        replicas: int = 0,
    ) -> Submission:
        """Submit any number of images, `chunk` (1 to 64) per job; return ids and counts of all.

        Where a full queue is waited for without end, several chunks share a round trip.

        Keeps one id per image; `submit_chunks` does the same in constant memory. `timeout` is for each chunk.

        Raises as `submit` does; chunks before the failing one stay accepted, and sending all again is safe.
        """
        order = Order(collection, priority, model, top_k, expires_in, on_full, timeout, resubmit, durable, replicas)
        ids: dict[str, None] = {}
        accepted = known = 0
        try:
            async for part in self._many(refs, chunk, order):
                ids.update(dict.fromkeys(part.ids))
                accepted += part.accepted
                known += part.known
        except ImageQueueError as error:
            error.add_note(f"{accepted} images of this call are accepted; sending all of it again is safe")
            raise
        return Submission(tuple(ids), accepted, known, collection)

    def submit_chunks(
        self,
        refs: Items[Reference],
        *,
        chunk: int = IMAGES_PER_JOB,
        collection: str = DEFAULT_COLLECTION,
        priority: str = Priority.NORMAL,
        model: str | None = None,
        top_k: int = 5,
        expires_in: float | None = None,
        on_full: OnFull = "wait",
        timeout: float | None = None,
        resubmit: bool = False,
        durable: bool = False,
        replicas: int = 0,
    ) -> AsyncIterator[Submission]:
        """Submit as the iterator is read, one Submission per chunk: a million images in constant memory.

        Raises as `submit_many` does.
        """
        order = Order(collection, priority, model, top_k, expires_in, on_full, timeout, resubmit, durable, replicas)
        return self._one_by_one(refs, chunk, order)

    async def _many(self, refs: Items[Reference], size: int, order: Order) -> AsyncIterator[Submission]:
        # Who waits for ever may be overtaken by a smaller chunk; who gives up must know that all before are accepted.
        if order.on_full == "raise" or order.timeout is not None:
            async for part in self._one_by_one(refs, size, order):
                yield part
            return
        async for window in windows(chunked(refs, size)):
            async for images, answer in self._submitter.submit_window(window, order):
                yield _submission(images, answer, order)

    async def _one_by_one(self, refs: Items[Reference], size: int, order: Order) -> AsyncIterator[Submission]:
        async for images in chunked(refs, size):
            yield _submission(images, await self._submitter.submit(images, order), order)

    async def upload(self, data: bytes, *, expires_in: float = BLOB_SECONDS) -> str:
        """Put an image's bytes into Redis for `expires_in` seconds; return their reference, `blob:<sha256>`.

        Submitting the reference extends their life to a day where it was shorter.
        """
        if not 0 < expires_in < math.inf:
            raise ConfigurationError(f"expires_in is {expires_in} s; must be above 0")
        sha256 = hashlib.sha256(data).hexdigest()
        milliseconds = max(1, round(expires_in * 1000))
        await self._link.ask(lambda client: client.set(contract.blob_key(sha256), data, px=milliseconds))
        return f"blob:{sha256}"

    # --- reading --------------------------------------------------------------------------------------------

    async def wait(
        self, ids: Items[str], *, collection: str = DEFAULT_COLLECTION, timeout: float | None = None
    ) -> dict[str, Result]:
        """The results of all ids, by id in the order given; returns when the last one is there.

        An id that nobody submits is waited for until `timeout` (seconds) is over.
        Raises WaitTimeout, which carries what is there.
        """
        wanted = tuple(dict.fromkeys([id_ async for id_ in each(ids)]))
        results: dict[str, Result] = {}
        try:
            async for result in self.as_completed(wanted, collection=collection, timeout=timeout):
                results[result.id] = result
        except WaitTimeout as error:
            error.results = {id_: results[id_] for id_ in wanted if id_ in results}
            raise
        return {id_: results[id_] for id_ in wanted}

    def as_completed(
        self, ids: Items[str], *, collection: str = DEFAULT_COLLECTION, timeout: float | None = None
    ) -> AsyncIterator[Result]:
        """The result of each id once, as they come; those that are there come first.

        Raises WaitTimeout when `timeout` seconds after the first step some are missing.
        """
        contract.check_collection(collection)
        check_timeout(timeout)
        return reading.completions(self._link, self._watch_of(collection), collection, ids, timeout)

    def stream(
        self, collection: str = DEFAULT_COLLECTION, from_id: str | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[Result]:
        """Results in the order of their publication, each once, for ever, or until none came for `timeout` seconds.

        `from_id` is the `entry` of the last result that was seen: what was published since comes first, also when the
        stream has been trimmed meanwhile; "0" is all that there is, None only what is published after the first step.
        A resubmitted image comes again with its new result.
        """
        contract.check_collection(collection)
        check_timeout(timeout)
        if from_id is not None:
            as_entry(from_id)
        return published(self._link, collection, from_id, timeout)

    def results(self, ids: Items[str] | None = None, *, collection: str = DEFAULT_COLLECTION) -> AsyncIterator[Result]:
        """The results that are there now: of the ids, in their order, or of all the collection, in none.

        Raises ContractError at a result that cannot be read.
        """
        contract.check_collection(collection)
        if ids is None:
            return reading.read_all(self._link, collection)
        return reading.read_results(self._link, collection, ids)

    async def result(self, id: str, *, collection: str = DEFAULT_COLLECTION) -> Result | None:  # noqa: A002
        """The result of one image, or None while there is none."""
        return await anext(self.results([id], collection=collection), None)

    async def progress(self, collection: str = DEFAULT_COLLECTION) -> Progress:
        """How far a collection is, at one instant."""
        return await reading.read_progress(self._link, contract.check_collection(collection))

    async def status(self) -> QueueStatus:
        """Queues, collections and workers as they are now."""
        return await read_status(self._link)

    async def waiting_time(self, priority: str = Priority.NORMAL) -> float | None:
        """Seconds that an image submitted now would wait, at the rate that the workers have measured.

        None when nobody can say: no worker serves its queue, none has measured itself yet, or the queue is paused.
        """
        return await read_waiting_time(self._link, priority)


def _submission(images: Sequence[Image], answer: Accepted, order: Order) -> Submission:
    accepted = sum(answer.new.values())
    return Submission(tuple(answer.new), accepted, len(images) - accepted, order.collection)
