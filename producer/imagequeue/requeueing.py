"""Dead letters back onto the queues: each request as it was, in a new job, as a new acceptance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from imagequeue import contract
from imagequeue.contract import IMAGES_PER_JOB, Image, Request
from imagequeue.dead_letters import Letter
from imagequeue.errors import BlobMissing, ContractError
from imagequeue.orders import CHUNK_BYTES_MAX, Order, check_sendable
from imagequeue.parts import Items, each
from imagequeue.submitting import Submitter


@dataclass(frozen=True, slots=True)
class Requeued:
    """What became of dead letters: `accepted` run again; `left` lie where they were.

    Left are those that somebody else requeued, resubmitted or discarded meanwhile, those whose uploaded bytes are no
    longer in Redis, and those whose request this side cannot read or send.
    """

    accepted: int
    left: int
    collection: str


@dataclass(slots=True)
class _Chunk:
    """Letters whose requests ask for the same, and which fit one job."""

    order: Order
    images: dict[str, Image] = field(default_factory=dict)
    entries: list[str] = field(default_factory=list)
    weight: int = 0

    def is_full(self) -> bool:
        return len(self.images) >= IMAGES_PER_JOB or self.weight >= CHUNK_BYTES_MAX


async def requeue_letters(submitter: Submitter, letters: Items[Letter], order: Order) -> Requeued:
    """Send dead letters again, in the order's collection and queue; model, classes and expiry are their own.

    Raises as `Submitter.submit` does; what was accepted before stays so, and requeueing again is safe.
    """
    accepted = left = 0
    async for chunk in _chunks(letters, order):
        new = 0 if chunk is None else await _send(submitter, chunk)
        accepted += new
        left += (1 if chunk is None else len(chunk.images)) - new
    return Requeued(accepted, left, order.collection)


async def _send(submitter: Submitter, chunk: _Chunk) -> int:
    """How many of a chunk are accepted. Images whose uploaded bytes are gone do not hold the others back."""
    try:
        return sum((await submitter.requeue(chunk.images, chunk.entries, chunk.order)).new.values())
    except BlobMissing:
        singles = list(zip(chunk.images.items(), chunk.entries, strict=True))
        if len(singles) == 1:
            return 0
        return sum([await _send(submitter, _Chunk(chunk.order, dict([image]), [entry])) for image, entry in singles])


async def _chunks(letters: Items[Letter], order: Order) -> AsyncIterator[_Chunk | None]:
    """Chunks of letters with the same wishes; None for a letter that cannot be sent."""
    open_chunks: dict[Order, _Chunk] = {}
    async for letter in each(letters):
        request = _request_of(letter)
        if request is None:
            yield None
            continue
        wishes = replace(order, model=request.model, top_k=request.top_k, expires_in=request.expires_in)
        chunk = open_chunks.setdefault(wishes, _Chunk(wishes))
        image = request.images[0]
        chunk.images[image.id] = image
        chunk.entries.append(letter.result.entry)
        chunk.weight += len(image.ref)
        if chunk.is_full():
            yield open_chunks.pop(wishes)
    for chunk in open_chunks.values():
        yield chunk


def _request_of(letter: Letter) -> Request | None:
    """Its request, if it can be read and sent, and asks for the image that it is filed under."""
    try:
        request = contract.decode_request(letter.request)
        ids = [check_sendable(image).id for image in request.images]
    except ContractError:
        return None
    return request if ids == [letter.result.id] else None
