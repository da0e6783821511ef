"""Push image references onto Redis queues, and read what the workers say about them.

    from imagequeue import Producer

    with Producer() as producer:
        submission = producer.submit_many(["/data/cat.jpg", "https://example.org/dog.jpg"])
        results = producer.wait(submission.ids, timeout=60)

Read `contract.py` first (the wire), then `core.py` (what you call; `client.py` and `aio.py` are its two faces),
`orders.py`, `submitting.py` and `durability.py` (images into Redis), `reading.py`, `streaming.py`, `feeds.py`,
`status.py` and `estimating.py` (results out of it), `operations.py` and what it names (cancelling, dead letters,
forgetting, dropping, pausing, the doctor), `bridge.py`, `link.py`, `calling.py`, `connection.py`, `slot_owner.py` and
`sentinel.py` (Redis itself), `reports/` (results as files, scores, the contact sheet), `ingesting.py`, `sources/` and
`journal.py` (a million images, resumable), and last the command line: `cli.py` and the `*_cli.py` beside it,
`terminal.py` (tables and bars). Names are loaded when they are first used, so the import is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagequeue.aio import AsyncProducer
    from imagequeue.client import Producer
    from imagequeue.contract import (
        ClassScore,
        ErrorCode,
        Failure,
        Image,
        Model,
        Priority,
        Result,
        StageSeconds,
        Status,
    )
    from imagequeue.dead_letters import DeadLetter
    from imagequeue.doctor import Diagnosis, Finding
    from imagequeue.errors import (
        BlobMissing,
        CollectionBusy,
        ConfigurationError,
        ContractError,
        DurabilityUnavailable,
        ImageQueueError,
        JournalError,
        QueueFull,
        RedisRefused,
        RedisUnavailable,
        SourceError,
        WaitTimeout,
    )
    from imagequeue.orders import Receipt, Submission
    from imagequeue.reading import Progress
    from imagequeue.requeueing import Requeued
    from imagequeue.roles import Role
    from imagequeue.status import CollectionState, QueueState, QueueStatus, WorkerState

__all__ = [
    "AsyncProducer",
    "BlobMissing",
    "ClassScore",
    "CollectionBusy",
    "CollectionState",
    "ConfigurationError",
    "ContractError",
    "DeadLetter",
    "Diagnosis",
    "DurabilityUnavailable",
    "ErrorCode",
    "Failure",
    "Finding",
    "Image",
    "ImageQueueError",
    "JournalError",
    "Model",
    "Priority",
    "Producer",
    "Progress",
    "QueueFull",
    "QueueState",
    "QueueStatus",
    "Receipt",
    "RedisRefused",
    "RedisUnavailable",
    "Requeued",
    "Result",
    "Role",
    "SourceError",
    "StageSeconds",
    "Status",
    "Submission",
    "WaitTimeout",
    "WorkerState",
]

# Looked through in this order: what most programs want comes before what few do.
_MODULES = (
    "contract", "errors", "client", "aio", "orders", "reading", "status", "roles", "dead_letters", "requeueing",
    "doctor",
)  # fmt: skip


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in _MODULES:
            found = vars(import_module(f"{__name__}.{module}")).get(name)
            if found is not None:
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
