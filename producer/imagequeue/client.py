"""The Producer: what a service holds to submit images and to read what became of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from imagequeue import contract, reading
from imagequeue.connection import DEFAULT_REDIS_URL
from imagequeue.contract import DEFAULT_COLLECTION, IMAGES_PER_JOB, Priority, Result
from imagequeue.errors import ConfigurationError, ImageQueueError, WaitTimeout
from imagequeue.link import Link
from imagequeue.operations import Operations
from imagequeue.orders import OnFull, Order, Receipt, Reference, Submission, as_image, check_timeout, chunked
from imagequeue.reading import Progress
from imagequeue.status import QueueStatus, read_status
from imagequeue.submitting import BLOB_SECONDS, Submitter

URL_VARIABLE = "IMAGEQUEUE_REDIS_URL"


class Producer(Operations):
    """Submits images and reads their results; thread-safe; a context manager that closes its connections.

    What operators ask for (cancel, requeue, drop, pause …) is described in `operations.py`.

    `redis_url` is IMAGEQUEUE_REDIS_URL, else redis://127.0.0.1:6379/0, when not given. `depth_limit` is how
    many images each queue may hold before submitting waits. `patience` is how many seconds Redis may be away
    (a restart, a failover) before a call raises RedisUnavailable; calls are sent again meanwhile, and never
    accept an image twice.

    Raises ConfigurationError; every method may raise RedisUnavailable and RedisRefused, and ContractError for
    a collection, id or reference that the contract does not allow.
    """

    def __init__(self, redis_url: str | None = None, *, depth_limit: int = 100_000, patience: float = 30.0) -> None:
        url = redis_url or os.environ.get(URL_VARIABLE) or DEFAULT_REDIS_URL
        self._link = Link(url, patience)
        self._submitter = Submitter(self._link, depth_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        self._link.close()

    def ping(self) -> None:
        """Raise RedisUnavailable at once, without patience, when Redis does not answer."""
        self._link.call(lambda client: client.ping(), within=0)

    # --- submitting -----------------------------------------------------------------------------------------

    def submit(
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
            image = as_image(contract.Image(id=id, ref=image.ref))
        answer = self._submitter.submit((image,), order)
        accepted = answer.new[image.id]
        return Receipt(image.id, accepted, answer.job if accepted else None, collection)

    def submit_many(
        self,
        refs: Iterable[Reference],
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

        Keeps one id per image; `submit_chunks` does the same in constant memory. `timeout` is for each chunk.

        Raises as `submit` does; chunks before the failing one stay accepted, and sending all again is safe.
        """
        order = Order(collection, priority, model, top_k, expires_in, on_full, timeout, resubmit, durable, replicas)
        ids: dict[str, None] = {}
        accepted = known = 0
        try:
            for part in self._chunks(refs, chunk, order):
                ids.update(dict.fromkeys(part.ids))
                accepted += part.accepted
                known += part.known
        except ImageQueueError as error:
            error.add_note(f"{accepted} images of this call are accepted; sending all of it again is safe")
            raise
        return Submission(tuple(ids), accepted, known, collection)

    def submit_chunks(
        self,
        refs: Iterable[Reference],
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
    ) -> Iterator[Submission]:
        """Submit as the iterator is read, one Submission per chunk: a million images in constant memory.

        Raises as `submit_many` does.
        """
        order = Order(collection, priority, model, top_k, expires_in, on_full, timeout, resubmit, durable, replicas)
        return self._chunks(refs, chunk, order)

    def _chunks(self, refs: Iterable[Reference], size: int, order: Order) -> Iterator[Submission]:
        for images in chunked(refs, size):
            new = self._submitter.submit(images, order).new
            accepted = sum(new.values())
            yield Submission(tuple(new), accepted, len(images) - accepted, order.collection)

    def upload(self, data: bytes, *, expires_in: float = BLOB_SECONDS) -> str:
        """Put an image's bytes into Redis for `expires_in` seconds; return their reference, `blob:<sha256>`.

        Submitting the reference extends their life to a day where it was shorter.
        """
        if not 0 < expires_in < float("inf"):
            raise ConfigurationError(f"expires_in is {expires_in} s; must be above 0")
        sha256 = hashlib.sha256(data).hexdigest()
        milliseconds = max(1, round(expires_in * 1000))
        self._link.call(lambda client: client.set(contract.blob_key(sha256), data, px=milliseconds))
        return f"blob:{sha256}"

    # --- reading --------------------------------------------------------------------------------------------

    def wait(
        self, ids: Iterable[str], *, collection: str = DEFAULT_COLLECTION, timeout: float | None = None
    ) -> dict[str, Result]:
        """The results of all ids, by id in the order given; returns when the last one is there.

        An id that nobody submits is waited for until `timeout` (seconds) is over.
        Raises WaitTimeout, which carries what is there.
        """
        wanted = tuple(dict.fromkeys(ids))
        results: dict[str, Result] = {}
        try:
            for result in self.as_completed(wanted, collection=collection, timeout=timeout):
                results[result.id] = result
        except WaitTimeout as error:
            error.results = {id_: results[id_] for id_ in wanted if id_ in results}
            raise
        return {id_: results[id_] for id_ in wanted}

    def as_completed(
        self, ids: Iterable[str], *, collection: str = DEFAULT_COLLECTION, timeout: float | None = None
    ) -> Iterator[Result]:
        """The result of each id once, as they come; those that are there come first.

        Raises WaitTimeout when `timeout` seconds after the first step some are missing.
        """
        contract.check_collection(collection)
        check_timeout(timeout)
        return reading.completions(self._link, collection, ids, timeout)

    def results(self, ids: Iterable[str] | None = None, *, collection: str = DEFAULT_COLLECTION) -> Iterator[Result]:
        """The results that are there now: of the ids, in their order, or of all the collection, in none.

        Raises ContractError at a result that cannot be read.
        """
        contract.check_collection(collection)
        if ids is None:
            return reading.read_all(self._link, collection)
        return reading.read_results(self._link, collection, ids)

    def result(self, id: str, *, collection: str = DEFAULT_COLLECTION) -> Result | None:  # noqa: A002
        """The result of one image, or None while there is none."""
        return next(self.results([id], collection=collection), None)

    def progress(self, collection: str = DEFAULT_COLLECTION) -> Progress:
        """How far a collection is, at one instant."""
        return reading.read_progress(self._link, contract.check_collection(collection))

    def status(self) -> QueueStatus:
        """Queues, collections and workers as they are now."""
        return read_status(self._link)
