"""References -> bytes -> pixels -> probabilities -> outcomes; one bad image fails alone.

A batch has two halves, so that they overlap: `prepare` hands the pictures of the next batch to the threads of
loading.py, while the net runs on the current one. `classify` waits for every image of a batch. `classify_ready` leaves
behind those that are late, so that a server that hangs keeps nobody but itself waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import structlog

from imagequeue.contract import ClassScore, Failure, Image, Outcome, Request, StageSeconds, Status
from imagequeue.errors import ContractError
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, preprocess
from imagequeue_worker.jobs import FinishedJob, TakenJob, failed_outcome
from imagequeue_worker.loading import Decode, Fetcher, Loader, Picture, Pixels, Threads, internal
from imagequeue_worker.nets import IMAGES_PER_RUN, Nets

log = structlog.get_logger("imagequeue_worker.pipeline")


@dataclass(slots=True)
class PreparingJob:
    """A job whose pictures are being fetched and decoded, or that could not be read."""

    taken: TakenJob
    request: Request | None = None
    failure: Failure | None = None
    pictures: list[Picture] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether an image of it has no outcome yet."""
        return any(picture.outcome is None for picture in self.pictures)


@dataclass(slots=True)
class Batch:
    """The jobs that are classified together."""

    jobs: list[PreparingJob] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many images its jobs own."""
        return sum(len(job.taken.ids) for job in self.jobs)

    @property
    def waiting(self) -> list[Picture]:
        """Its pictures that have no outcome yet."""
        return [picture for job in self.jobs for picture in job.pictures if picture.outcome is None]

    @property
    def waiting_images(self) -> int:
        """How many those are."""
        return len(self.waiting)

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest of them has been at being fetched and decoded; not counted before it began."""
        now = time.monotonic()
        return now - min((picture.began_at for picture in self.waiting if picture.began_at is not None), default=now)

    def has_ready(self) -> bool:
        """Whether one of them is ready to be classified."""
        return any(picture.loaded is not None for picture in self.waiting)

    def cancel(self) -> None:
        """Forget what has not been begun."""
        for picture in self.waiting:
            picture.cancelled = True


@dataclass(slots=True)
class Classified:
    """What became of a batch: jobs that are done; what is known so far of jobs that are not; and those jobs."""

    finished: list[FinishedJob]
    parts: list[FinishedJob]
    late: Batch
    images: int  # that have got their outcome


class Pipeline:
    """What a process does with images; made once, after the fork."""

    def __init__(
        self,
        nets: Nets,
        references: Fetcher,
        limits: Limits,
        *,
        threads: Threads,
        worker: str = "",
        decode: Decode = preprocess,
        on_advance: Callable[[], None] = lambda: None,
        raise_memory_errors: bool = False,
    ) -> None:
        self._nets = nets
        self._worker = worker
        self._advance = on_advance
        self._raise_memory_errors = raise_memory_errors
        self._loader = Loader(references, limits, threads, decode=decode, on_advance=on_advance)

    def prepare(self, jobs: Sequence[TakenJob]) -> Batch:
        """Begin to fetch and decode what these jobs own; returns at once."""
        return Batch([self._prepare_job(job) for job in jobs])

    def classify(self, batch: Batch) -> list[FinishedJob]:
        """Wait for a batch's pixels and classify them; an outcome for every image that its jobs own."""
        return self.classify_ready(batch, None).finished

    def classify_ready(self, batch: Batch, patience_seconds: float | None) -> Classified:
        """Classify a batch as its pixels come, until none has come for so long (None: until all have)."""
        waiting = batch.waiting
        all_of_them = len(waiting)
        while waiting:
            ready = self._loader.wait(waiting, patience_seconds)
            if not ready:
                break
            self._classify(ready)
            waiting = [picture for picture in waiting if picture.outcome is None]
        for picture in waiting:
            picture.late = True
        late = [job for job in batch.jobs if job.waits]
        finished = [self._finished(job) for job in batch.jobs if not job.waits]
        parts = [part for job in late if (part := _part(job)).outcomes]
        return Classified(finished, parts, Batch(late), all_of_them - len(waiting))

    def tell_of_late_ones(self, tell: Callable[[], None]) -> None:
        """Have `tell` called, by a thread, whenever a picture that was left behind is loaded."""
        self._loader.on_late = tell

    def close(self) -> None:
        """Let the threads end; what they are at is left to them."""
        self._loader.close()

    # --- prepare -------------------------------------------------------------------------------------------------

    def _prepare_job(self, taken: TakenJob) -> PreparingJob:
        try:
            request = taken.request()
        except ContractError as error:
            return PreparingJob(taken, failure=Failure(error.code, str(error)))
        job = PreparingJob(taken, request)
        mine = set(taken.ids)
        job.pictures = [self._prepare_picture(image, request, taken) for image in request.images if image.id in mine]
        return job

    def _prepare_picture(self, image: Image, request: Request, taken: TakenJob) -> Picture:
        try:
            picture = Picture(image, request, taken, self._nets.choose(request.model))
        except ImageError as error:
            failed = Pixels(failure=Failure(error.code.value, str(error)))
            return Picture(image, request, taken, None, loaded=failed)
        self._loader.begin(picture)
        return picture

    # --- classify ------------------------------------------------------------------------------------------------

    def _classify(self, pictures: Iterable[Picture]) -> None:
        """Give each of these pictures, which are loaded, its outcome: the net is run for all of its own at once."""
        groups: dict[str, list[tuple[Picture, Pixels]]] = {}
        for picture in pictures:
            loaded = picture.loaded
            if loaded is None:
                raise AssertionError("only pictures that are loaded are classified")
            if loaded.memory_error is not None:
                self._let_pass(loaded.memory_error)
            if picture.net is None or loaded.pixels is None:
                picture.outcome = self._outcome(picture, loaded)
            else:
                groups.setdefault(picture.net.model.name, []).append((picture, loaded))
        for group in groups.values():
            for start in range(0, len(group), IMAGES_PER_RUN):
                self._run(group[start : start + IMAGES_PER_RUN])
                self._advance()

    def _run(self, group: Sequence[tuple[Picture, Pixels]]) -> None:
        """Run the net that these pictures share, once."""
        net = group[0][0].net
        if net is None:
            raise AssertionError("only pictures with a net are run")
        started, began = time.perf_counter(), time.monotonic()
        try:
            probabilities = net.probabilities(np.stack([one.pixels for _, one in group if one.pixels is not None]))
        except Exception as error:
            self._let_pass(error)
            jobs = sorted({picture.taken.lease.job for picture, _ in group})
            log.exception("defect while running the net", net=net.model.name, jobs=jobs)
            for picture, loaded in group:
                picture.outcome = self._outcome(picture, replace(loaded, failure=internal(error)))
            return
        seconds, ended = (time.perf_counter() - started) / len(group), time.monotonic()
        for (picture, loaded), row in zip(group, probabilities, strict=True):
            picture.infer_began, picture.infer_ended = began, ended
            classes = net.best_classes(row, picture.request.top_k)
            picture.outcome = self._outcome(picture, loaded, seconds, classes)

    def _let_pass(self, error: Exception) -> None:
        """A queue's worker ends when memory does: its jobs are run again, alone, and the image at fault is found."""
        if self._raise_memory_errors and isinstance(error, MemoryError):
            raise error

    # --- outcomes ------------------------------------------------------------------------------------------------

    def _outcome(
        self, picture: Picture, loaded: Pixels, infer_seconds: float = 0.0, classes: tuple[ClassScore, ...] = ()
    ) -> Outcome:
        taken = picture.taken
        picture.loaded = replace(loaded, pixels=None)  # the crop is not needed any more
        seconds = StageSeconds(
            queue=max(0.0, taken.taken_at - taken.submitted_at),
            fetch=loaded.fetch_seconds,
            decode=loaded.decode_seconds,
            infer=infer_seconds,
        )
        return Outcome(
            id=picture.image.id,
            ref=picture.image.ref,
            status=Status.ERROR if loaded.failure else Status.OK,
            classes=classes,
            error=loaded.failure,
            model=picture.net.model if picture.net else None,
            worker=self._worker,
            attempt=taken.attempt,
            submitted_at=taken.submitted_at,
            seconds=seconds,
        )

    def _finished(self, job: PreparingJob) -> FinishedJob:
        if job.failure:
            failed = [failed_outcome(job.taken, id_, "", job.failure, self._worker) for id_ in job.taken.ids]
            return FinishedJob(job.taken, failed, failure=f"{job.failure.code}: {job.failure.message}")
        return _answer(job, job.pictures)


def _part(job: PreparingJob) -> FinishedJob:
    """The outcomes of a job that are known and have not been handed out; its last answer has them once more."""
    known = [picture for picture in job.pictures if picture.outcome and not picture.published]
    for picture in known:
        picture.published = True
    return _answer(job, known)


def _answer(job: PreparingJob, pictures: Sequence[Picture]) -> FinishedJob:
    """The outcomes of these pictures of a job; and when they were where, if their producer asked for a trace."""
    answer = FinishedJob(job.taken, [picture.outcome for picture in pictures if picture.outcome], job.request)
    if job.request and job.request.trace:
        answer.timings = {picture.image.id: picture.timing() for picture in pictures}
    return answer
