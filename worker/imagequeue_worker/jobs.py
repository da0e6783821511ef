"""Jobs as a worker holds them: what take returned, and what finish is told."""

from __future__ import annotations

import time
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from imagequeue.contract import (
    NOT_REQUEUED,
    Failure,
    Outcome,
    Request,
    Status,
    decode_job,
    encode_outcome,
    encode_request,
)
from imagequeue.errors import ContractError

Cell = bytes | str | int | float
"""One argument of a script."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to publish a job's images, for as long as it is renewed."""

    queue: str
    job: str
    execution: str


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A leased job. Times are Unix seconds by Redis' clock."""

    lease: Lease
    attempt: int
    losses: int
    collection: str
    submitted_at: float
    taken_at: float
    forbidden: bool  # it names callbacks or webhooks
    data: bytes
    ids: tuple[str, ...]  # the images that it owns
    taken_monotonic: float = field(default_factory=time.monotonic)  # by this process' clock

    @property
    def suspect(self) -> bool:
        """Whether a worker has died while it held this job."""
        return self.losses > 0

    def request(self) -> Request:
        """The request it carries; raise ContractError when there is none that may be run."""
        if self.forbidden:
            raise ContractError("job names callbacks or webhooks; submit it without", "forbidden")
        if not self.collection:
            raise ContractError("job has no collection, or one whose keys are damaged; submit with imagequeue.Producer")
        request = decode_job(_inflate(self.data))
        if request.collection != self.collection:
            raise ContractError(f"request names collection {request.collection!r}, its job {self.collection!r}")
        missing = set(self.ids) - {image.id for image in request.images}
        if missing:
            raise ContractError(f"request lacks image {min(missing)!r}, which its job was accepted for")
        return request


# RQ's own tools compress a job's data when they save it. 64 references of the largest size fit.
_DATA_BYTES_MAX = 72 << 20


def _inflate(data: bytes) -> bytes:
    if data[:1] == b"[":
        return data
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, _DATA_BYTES_MAX)
    except zlib.error as error:
        raise ContractError(f"job data is neither JSON nor zlib ({error})") from error
    if inflater.unconsumed_tail:
        raise ContractError(f"job data is larger than {_DATA_BYTES_MAX} bytes when inflated")
    return plain


@dataclass(frozen=True, slots=True)
class Timing:
    """When an image was at which stage: monotonic seconds, which all processes of a machine share; 0 for never."""

    fetch_began: float = 0.0
    fetch_ended: float = 0.0
    decode_began: float = 0.0
    decode_ended: float = 0.0
    infer_began: float = 0.0
    infer_ended: float = 0.0


@dataclass(slots=True)
class FinishedJob:
    """What finish is told about one job: outcomes of images, or why the job itself failed."""

    taken: TakenJob
    outcomes: list[Outcome] = field(default_factory=list)
    request: Request | None = None
    failure: str | None = None  # RQ's failed registry gets it
    dependents_queued: bool = False
    timings: dict[str, Timing] = field(default_factory=dict)  # by image; of requests that are traced

    def rows(self) -> list[Cell]:
        """Its part of finish.lua's ARGV."""
        lease = self.taken.lease
        row: list[Cell] = [
            lease.queue, lease.job, lease.execution, self.taken.collection,
            "failed" if self.failure else "finished", self._answer(), f"{self.taken.taken_at:.6f}",
            "1" if self.dependents_queued else "", len(self.outcomes),
        ]  # fmt: skip
        for outcome in self.outcomes:
            row += image_row(outcome, self.request)
        return row

    def _answer(self) -> bytes:
        """RQ's result: a small return value, or the reason of the failure; as RQ encodes them."""
        if self.failure:
            return b64encode(zlib.compress(self.failure.encode()))
        return b64encode(msgspec.json.encode(count(self.outcomes)))


Published = Sequence[tuple[FinishedJob, Sequence[Outcome]]]
"""Jobs, each with those of its outcomes that have been published."""


def count(outcomes: list[Outcome]) -> dict[str, int]:
    """How many images ended how: the return value of a job."""
    ok = sum(outcome.status is Status.OK for outcome in outcomes)
    return {"ok": ok, "error": len(outcomes) - ok}


def image_row(outcome: Outcome, request: Request | None) -> list[Cell]:
    """An image's part of finish.lua's and settle.lua's ARGV: id, status, text, dead letter."""
    dead = b""
    if request and outcome.error and outcome.error.code not in NOT_REQUEUED:
        images = tuple(image for image in request.images if image.id == outcome.id)
        dead = encode_request(msgspec.structs.replace(request, images=images))
    return [outcome.id, outcome.status.value, encode_outcome(outcome), dead]


def failed_outcome(taken: TakenJob, image_id: str, ref: str, failure: Failure, worker: str) -> Outcome:
    """The error result of one image of a job, before any stage has begun."""
    return Outcome(
        id=image_id, ref=ref, status=Status.ERROR, error=failure, worker=worker, attempt=taken.attempt,
        submitted_at=taken.submitted_at,
    )  # fmt: skip
