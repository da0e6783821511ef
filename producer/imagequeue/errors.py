"""What the producer's side raises.

ImageQueueError
├── ConfigurationError      a setting or argument is not usable
├── ContractError           a message does not follow the wire contract
├── QueueFull               the queue has no room for the chunk
├── BlobMissing             a `blob:` reference whose bytes are not in Redis (any more)
├── CollectionBusy          a collection that still has pending images cannot be dropped
├── DurabilityUnavailable   Redis cannot confirm that what it accepted is on its disk
├── SourceError             a source of references cannot be read, or broke off
├── JournalError            the journal of a run cannot be opened, read or written
├── WaitTimeout             images without a result when the time to wait was over
├── RedisUnavailable        Redis did not answer
└── RedisRefused            Redis answered, and refused
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagequeue.contract import Result


class ImageQueueError(Exception):
    """The root: catch this to catch everything that imagequeue raises on purpose."""


class ConfigurationError(ImageQueueError):
    """Raised when a setting or an argument has a value that cannot be used."""


class ContractError(ImageQueueError):
    """Raised when a request, a result or a name does not follow the wire contract.

    `code` is the wire form that an image's result gets for it (see `contract.ErrorCode`).
    """

    def __init__(self, message: str, code: str = "malformed_request") -> None:
        super().__init__(message)
        self.code = code


class QueueFull(ImageQueueError):  # noqa: N818  queue.Full and asyncio.QueueFull set the word
    """Raised when a queue's depth limit, or Redis' memory, leaves no room for a chunk.

    At once with `on_full="raise"`, else when the `timeout` is over.
    """


class BlobMissing(ImageQueueError):  # noqa: N818  names the state, like QueueFull
    """Raised when a `blob:` reference names bytes that Redis does not hold (any more)."""


class CollectionBusy(ImageQueueError):  # noqa: N818  names the state, like QueueFull
    """Raised when a collection is to be dropped and has pending images; nothing of it is removed."""


class DurabilityUnavailable(ImageQueueError):  # noqa: N818  names the state, like QueueFull
    """Raised when a durable submission cannot be confirmed.

    Redis gives no evidence of having synced its disk, and nothing was accepted; or the disk or the replicas did not
    confirm in time, and the message says that the images are accepted, but may be lost with the server.
    """


class SourceError(ImageQueueError):
    """Raised when a source of references is not there, cannot be read, or breaks off; the message says where."""


class JournalError(ImageQueueError):
    """Raised when the journal of a run is in use, is none, belongs to another plan, or cannot be read or written."""


class RedisUnavailable(ImageQueueError):  # noqa: N818  names the state, like QueueFull
    """Raised when Redis cannot be reached, or refuses the connection."""


class WaitTimeout(ImageQueueError, TimeoutError):  # noqa: N818  names the state, like QueueFull
    """Raised when the time to wait is over and images have no result; they stay accepted, so wait again.

    `results` holds what is there, by image id (of `wait`; `as_completed` has already handed it over),
    `missing` the ids without a result.
    """

    def __init__(self, message: str, missing: tuple[str, ...], results: Mapping[str, Result] | None = None) -> None:
        super().__init__(message)
        self.missing = missing
        self.results: Mapping[str, Result] = results or {}


class RedisRefused(ImageQueueError):  # noqa: N818  names the state, like QueueFull
    """Raised when Redis answers with an error (no permission, no memory, a key of another type), or is too old."""
