"""What a caller asks for and is told: references become images and chunks here, before Redis is involved."""

from __future__ import annotations

import math
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imagequeue import contract
from imagequeue.contract import DEFAULT_COLLECTION, IMAGES_PER_JOB_MAX, TOP_K_MAX, Image, Priority
from imagequeue.errors import ConfigurationError, ContractError
from imagequeue.parts import Items, each

Reference = str | os.PathLike[str] | Image
"""A reference as the worker gets it, a path (made absolute), or an Image that brings its own id."""

OnFull = Literal["wait", "raise"]

CHUNK_BYTES_MAX = 4 << 20  # of references: `data:` ones carry their bytes
WINDOW_CHUNKS = 8  # sent in one round trip

_BLOB = re.compile(r"blob:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Receipt:
    """One submitted image. If it was waiting already or had a result, `accepted` is False and `job` None."""

    id: str
    accepted: bool
    job: str | None
    collection: str


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of many images: `accepted` are new, `known` were waiting already or had a result.

    Together they are all that were given: an image named twice is accepted once and known once. `ids` has
    every id once, in the order given.
    """

    ids: tuple[str, ...]
    accepted: int
    known: int
    collection: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a call asks for besides its images; checked when made, before anything is sent."""

    collection: str = DEFAULT_COLLECTION
    priority: str = Priority.NORMAL
    model: str | None = None
    top_k: int = 5
    expires_in: float | None = None
    on_full: OnFull = "wait"
    timeout: float | None = None
    resubmit: bool = False
    durable: bool = False
    replicas: int = 0

    def __post_init__(self) -> None:
        """Raise ContractError for what no worker would take, ConfigurationError for what this side cannot."""
        contract.check_collection(self.collection)
        queue_of(self.priority)
        if not 1 <= self.top_k <= TOP_K_MAX:
            raise ContractError(f"top_k is {self.top_k}; 1 to {TOP_K_MAX} classes can be asked for")
        if self.expires_in is not None and not 0 < self.expires_in < math.inf:
            raise ContractError(f"expires_in is {self.expires_in} s; must be above 0, or None for never")
        if self.on_full not in ("wait", "raise"):
            raise ConfigurationError(f"on_full is {self.on_full!r}; choose 'wait' or 'raise'")
        if self.replicas < 0 or (self.replicas and not self.durable):
            raise ConfigurationError(
                f"replicas is {self.replicas} with durable={self.durable}; replicas confirm durable submissions only"
            )
        check_timeout(self.timeout)

    @property
    def queue(self) -> str:
        """The RQ queue of its priority."""
        return queue_of(self.priority)


def queue_of(priority: str) -> str:
    """The RQ queue of a priority; raise ConfigurationError if there is no such priority."""
    if priority not in list(Priority):
        raise ConfigurationError(f"priority is {priority!r}; choose {', '.join(Priority)}")
    return Priority(priority).queue


def check_timeout(timeout: float | None) -> None:
    """Raise ConfigurationError unless it is None or a number of seconds."""
    if timeout is not None and not timeout >= 0:
        raise ConfigurationError(f"timeout is {timeout} s; must be 0 or more, or None to wait for ever")


def as_image(reference: Reference) -> Image:
    """The image behind a reference; raise ContractError when it cannot be sent."""
    if isinstance(reference, Image):
        return check_sendable(reference)
    ref = reference if isinstance(reference, str) else path_reference(Path(reference))
    return check_sendable(Image(id=contract.image_id(ref), ref=ref))


def check_sendable(image: Image) -> Image:
    """Return the image if the contract allows it and Redis can hold it; raise ContractError otherwise."""
    contract.check_image(image)
    blob_key_of(image)
    if not (image.id.isascii() and image.ref.isascii()):
        try:
            image.id.encode()
            image.ref.encode()
        except UnicodeEncodeError as error:
            raise ContractError(f"a reference or id is not valid Unicode ({error.reason}); re-encode it") from error
    return image


def blob_key_of(image: Image) -> str | None:
    """The key of its uploaded bytes; None if its reference is of another kind. Raises ContractError."""
    if not image.ref.startswith("blob:"):
        return None
    named = _BLOB.fullmatch(image.ref)
    if named is None:
        raise ContractError(f"reference {image.ref[:80]!r} is no blob; write blob: and 64 hexadecimal digits")
    return contract.blob_key(named[1])


def path_reference(path: Path) -> str:
    """The reference of a file: its absolute path, or a `file:` URL when its name is not valid Unicode."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  links stay as named: the worker judges them
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        return absolute.as_uri()
    return str(absolute)


async def chunked(references: Items[Reference], size: int) -> AsyncIterator[tuple[Image, ...]]:
    """Cut a stream of references into chunks of at most `size` images and 4 MiB of references."""
    if not 1 <= size <= IMAGES_PER_JOB_MAX:
        raise ConfigurationError(f"chunk is {size}; a job holds 1 to {IMAGES_PER_JOB_MAX} images")
    chunk: list[Image] = []
    weight = 0
    async for reference in each(references):
        image = as_image(reference)
        if chunk and weight + len(image.ref) > CHUNK_BYTES_MAX:
            yield tuple(chunk)
            chunk, weight = [], 0
        chunk.append(image)
        weight += len(image.ref)
        if len(chunk) == size:  # at once: the next reference may be long in coming, or none
            yield tuple(chunk)
            chunk, weight = [], 0
    if chunk:
        yield tuple(chunk)


async def windows(chunks: AsyncIterator[tuple[Image, ...]]) -> AsyncIterator[list[tuple[Image, ...]]]:
    """Chunks to be sent together: a few, and 4 MiB of references at most, or one chunk.

    When their source breaks, what it gave before still comes, and then its error.
    """
    window: list[tuple[Image, ...]] = []
    weight = 0
    broken: Exception | None = None
    while True:
        try:
            chunk = await anext(chunks, None)
        except Exception as error:
            chunk, broken = None, error
        heavy = 0 if chunk is None else sum(len(image.ref) for image in chunk)
        if window and (chunk is None or len(window) == WINDOW_CHUNKS or weight + heavy > CHUNK_BYTES_MAX):
            yield window
            window, weight = [], 0
        if chunk is None:
            break
        window.append(chunk)
        weight += heavy
    if broken is not None:
        raise broken
