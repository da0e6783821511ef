"""A resumable ingestion: what sources list is submitted, followed and written down.

Each step may be the last one before a SIGKILL. What is read is noted in the journal before it is submitted, and what
has a result is settled there before Redis may forget it: so a second start sends only what has no result, under the
same ids, and reads each source from its cursor on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imagequeue.client import Producer
from imagequeue.contract import Image, Result, Status
from imagequeue.errors import BlobMissing, RedisRefused, SourceError
from imagequeue.ingest_plan import Plan
from imagequeue.journal_writing import BROKEN, READ, Counts, Journal
from imagequeue.orders import Submission
from imagequeue.sources.items import Found, Listed, Source, Unreadable

CHUNK = 32  # images per job: a worker's batch
IMAGES_PER_STEP = 512  # noted in one transaction
RESULTS_PER_STEP = 1_000  # settled in one transaction
WAIT_SECONDS = 1.0
STALL_SECONDS = 60.0  # without a result: Redis is asked whether it still knows what was sent


class Listener(Protocol):
    """Who is told how it goes."""

    def tell(self, line: str) -> None:
        """Something went wrong, and the rest goes on."""

    def move(self, counts: Counts, total: int | None) -> None:
        """How far the run is, and how many images there will be, if that can be said."""


@dataclass(slots=True)
class Ingestion:
    """One start of a run; `run` is its collection. At most `limit_in_flight` of its images are without a result."""

    producer: Producer
    journal: Journal
    run: str
    plan: Plan
    sources: Mapping[int, Source]  # those that are not read to their end, by number
    listener: Listener
    limit_in_flight: int
    strict: bool = False  # the first problem of a source stops the run
    keep_results: bool = False  # leave results in Redis until they expire
    _read_all: bool = False
    _share: float | None = None
    _active_at: float = field(default_factory=time.monotonic)

    def finish(self) -> Counts:
        """Go on until every image has its result; return the counts of the whole run.

        Raises SourceError with `strict`, and what the producer and the journal raise: the run can be started again.
        """
        self._send_unsettled()
        feed = self._feed()
        while not self._read_all or self.journal.counts.in_flight:
            if not self._read_all and self._room >= self._step:
                self._read_on(feed)
                self._collect(0)
                continue
            self._collect(WAIT_SECONDS)
            if time.monotonic() - self._active_at > STALL_SECONDS:
                self._send_unsettled()
        while self._collect(0) == RESULTS_PER_STEP:  # also what was requeued since the last start
            pass
        return self.journal.counts

    @property
    def _room(self) -> int:
        return self.limit_in_flight - self.journal.counts.in_flight

    @property
    def _step(self) -> int:
        """How many images are read at once: a part of the limit, so that workers always have the rest."""
        return max(1, min(IMAGES_PER_STEP, self.limit_in_flight // 4))

    # --- reading ------------------------------------------------------------------------------------------------

    def _feed(self) -> Iterator[tuple[int, list[Found]]]:
        """What the sources list, in steps, with the number of the source; each from its cursor on."""
        for state in self.journal.sources():
            if state.state == READ:
                continue
            step: list[Found] = []
            problem = None
            try:
                for found in self.sources[state.number].read(state.cursor):
                    step.append(found)
                    if len(step) >= self._step:
                        yield state.number, step
                        step = []
            except SourceError as error:
                problem = error
            yield state.number, step
            self._share = None
            self.journal.end_source(state.number, BROKEN if problem else READ)
            if problem is not None:
                if self.strict:
                    raise problem
                self.listener.tell(f"{problem}; the next start of the run tries again from there")

    def _read_on(self, feed: Iterator[tuple[int, list[Found]]]) -> None:
        number, found = next(feed, (0, None))
        if found is None:
            self._read_all = True
            return
        problem = next((one for one in found if isinstance(one, Unreadable)), None)
        noted = self.journal.note(number, found[: found.index(problem)] if self.strict and problem else found)
        self._send(noted.new)
        self.journal.all_sent()
        self._share = next((one.share for one in reversed(found) if isinstance(one, Listed)), None)
        for told in noted.problems:
            self.listener.tell(f"{told.place}: {told.why}")
        if self.strict:
            self._stop_at(next(iter(noted.problems), problem), noted.duplicates, found)

    def _stop_at(self, problem: Unreadable | None, duplicates: int, found: Sequence[Found]) -> None:
        if problem is not None:
            raise SourceError(f"{problem.place}: {problem.why}")
        if duplicates:
            raise SourceError(f"{duplicates} images up to {found[-1].place} have been named before")

    # --- sending ------------------------------------------------------------------------------------------------

    def _send_unsettled(self) -> None:
        """Send what has no result: all that Redis still knows, and that is nearly all, it leaves as it is."""
        self._active_at = time.monotonic()
        again = 0
        for images in self.journal.unsettled(sent=True):
            again += self._send(images)
        if again:
            self.journal.sent_again(again)
            self.listener.tell(f"{again} images or their results were lost from Redis, and are submitted again")
        for images in self.journal.unsettled(sent=False):
            self._send(images)
        self.journal.all_sent()

    def _send(self, images: Sequence[Image]) -> int:
        """Get images accepted, and settle those that have a result already; return how many Redis did not know."""
        try:
            sent = [self.producer.submit_many(images, **self._order)]
        except BlobMissing:  # some of them name bytes that are not in Redis
            sent = list(self._send_one_by_one(images))
        known = [id_ for part in sent if part.known for id_ in part.ids]
        if known:
            self._settle(list(self.producer.results(known, collection=self.run)), None)
        return sum(part.accepted for part in sent)

    def _send_one_by_one(self, images: Sequence[Image]) -> Iterator[Submission]:
        for image in images:
            try:
                yield self.producer.submit_many([image], **self._order)
            except BlobMissing as error:
                self.journal.reject(image, str(error))
                self.listener.tell(f"{image.ref}: {error}")

    @property
    def _order(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "chunk": CHUNK,
            "collection": self.run,
            "priority": plan.priority,
            "model": plan.model,
            "top_k": plan.top_k,
            "expires_in": plan.expires_in,
        }

    # --- collecting ---------------------------------------------------------------------------------------------

    def _collect(self, seconds: float) -> int:
        """Settle a step of what was published since the last time, or within `seconds`; return how many results.

        Who waits settles after fewer of them, to make room for the next images.
        """
        most = self._step if seconds else RESULTS_PER_STEP
        results: list[Result] = []
        deadline = time.monotonic() + seconds
        for result in self.producer.stream(self.run, from_id=self.journal.entry or "0", timeout=seconds):
            results.append(result)
            if len(results) >= most:
                break
            if seconds and time.monotonic() > deadline:
                break
        if results:
            self._active_at = time.monotonic()
            self._settle(results, results[-1].entry)
        self.listener.move(self.journal.counts, self._total)
        return len(results)

    def _settle(self, results: Sequence[Result], entry: str | None) -> None:
        own = self.journal.settle(results, entry)
        here = self.journal.entry
        if self.keep_results or here is None:
            return
        # Errors stay until they expire: `imagequeue requeue` and `dead-letters` need them.
        done = [result for result in own if result.status is Status.OK]
        try:
            self.producer.forget(done, here, collection=self.run)
        except RedisRefused as error:
            self.keep_results = True
            self.listener.tell(f"results stay in Redis until they expire: {error}")

    @property
    def _total(self) -> int | None:
        """How many images there will be: known at the end, and guessed where sources say how far they are read."""
        images = self.journal.counts.images
        if self._read_all:
            return images
        if not self._share:
            return None
        states = self.journal.sources()
        whole = sum(state.state == READ for state in states) + self._share
        return round(images * len(states) / whole)
