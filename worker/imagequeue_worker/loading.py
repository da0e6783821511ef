"""References -> bytes -> pixels, in threads: what is to be classified next is fetched and decoded meanwhile.

    prepare ─> fetching threads (many: they wait) ─> decoding threads (few: they work) ─> pixels

In flight are, at most: as many fetches as there are threads for them, the bytes that the references' budget allows, one
decoded picture per decoding thread, and the crops of the images that the worker has taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol as Interface

import numpy as np
import structlog
from numpy.typing import NDArray

from imagequeue.contract import ErrorCode, Failure, Image, Outcome, Request
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, Preprocessing
from imagequeue_worker.jobs import TakenJob, Timing
from imagequeue_worker.nets import LoadedNet
from imagequeue_worker.references import Allowance, Lanes, host_of

log = structlog.get_logger("imagequeue_worker.loading")

Decode = Callable[[bytes, Preprocessing, Limits], NDArray[np.uint8]]


class Fetcher(Interface):
    """Where bytes come from; see `references`."""

    def allow(self, ref: str) -> Allowance:
        """What the reference may cost; closed when it has been decoded."""

    def fetch(self, ref: str, allowance: Allowance) -> bytes:
        """The bytes that a reference names; raise ImageError when they cannot be had."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What fetching and decoding gave: pixels, or the failure instead; and the seconds they took."""

    pixels: NDArray[np.uint8] | None = None
    failure: Failure | None = None
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_began: float = 0.0  # monotonic seconds
    memory_error: MemoryError | None = None


@dataclass(slots=True, eq=False)
class Picture:
    """One image on its way: what it is, then its pixels, then its outcome."""

    image: Image
    request: Request
    taken: TakenJob
    net: LoadedNet | None
    began_at: float | None = None  # monotonic seconds; None until a thread has time for it
    loaded: Pixels | None = None
    infer_began: float = 0.0  # monotonic seconds, as infer_ended: of the run that it shared
    infer_ended: float = 0.0
    outcome: Outcome | None = None
    published: bool = False  # the outcome, before those of its job's other images
    late: bool = False  # left behind: whoever sleeps is told when it is loaded
    cancelled: bool = False

    def timing(self) -> Timing:
        """When it was at which stage."""
        loaded, began = self.loaded or Pixels(), self.began_at or 0.0
        return Timing(
            began, began + loaded.fetch_seconds, loaded.decode_began, loaded.decode_began + loaded.decode_seconds,
            self.infer_began, self.infer_ended,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Threads:
    """How many threads do what."""

    decoding: int = 2
    fetching: int = 32
    per_host: int = 8  # of those that fetch


class Loader:
    """The threads, and whoever waits for them."""

    def __init__(
        self, references: Fetcher, limits: Limits, threads: Threads, *, decode: Decode, on_advance: Callable[[], None]
    ) -> None:
        self._references = references
        self._limits = limits
        self._decode = decode
        self._advance = on_advance
        self._lanes = Lanes(threads.fetching, threads.per_host)
        self._decoders = ThreadPoolExecutor(threads.decoding, thread_name_prefix="decode")
        self._arrived = threading.Condition()
        self._closed = False
        self.on_late: Callable[[], None] = lambda: None

    def begin(self, picture: Picture) -> None:
        """Begin to fetch and decode a picture; returns at once."""
        self._lanes.submit(host_of(picture.image.ref), partial(self._fetch_one, picture))

    def wait(self, pictures: Sequence[Picture], patience_seconds: float | None) -> list[Picture]:
        """Those of the pictures that are loaded, when one is; none when none has come for so long."""

        def ready() -> list[Picture]:
            return [picture for picture in pictures if picture.loaded is not None]

        with self._arrived:
            return self._arrived.wait_for(ready, patience_seconds)

    def arrive(self, picture: Picture, loaded: Pixels) -> None:
        """Note what became of a picture."""
        with self._arrived:
            picture.loaded = loaded
            self._arrived.notify_all()
        if picture.late:
            self.on_late()

    def close(self) -> None:
        """Let the threads end; what they are at is left to them."""
        self._closed = True
        self._lanes.close()
        self._decoders.shutdown(wait=False)  # what waits for them gives its bytes back: fetches may wait for those

    # --- in the threads ------------------------------------------------------------------------------------------

    def _fetch_one(self, picture: Picture) -> None:
        if picture.cancelled:
            return
        picture.began_at = time.monotonic()
        started = time.perf_counter()
        ref = picture.image.ref
        allowance = self._references.allow(ref)
        try:
            data = self._references.fetch(ref, allowance)
        except Exception as error:
            allowance.close()
            self.arrive(picture, self._failed(picture, error, time.perf_counter() - started))
            return
        finally:
            self._advance()
        try:
            self._decoders.submit(self._decode_one, picture, data, allowance, time.perf_counter() - started)
        except RuntimeError:  # closed meanwhile
            allowance.close()

    def _decode_one(self, picture: Picture, data: bytes, allowance: Allowance, fetch_seconds: float) -> None:
        started, began = time.perf_counter(), time.monotonic()
        try:
            with allowance:
                if self._closed or picture.net is None:  # pictures without a net are not begun
                    return
                pixels = self._decode(data, picture.net.description.preprocessing, self._limits)
            loaded = Pixels(pixels, None, fetch_seconds, time.perf_counter() - started, began)
        except Exception as error:
            loaded = self._failed(picture, error, fetch_seconds)
        self.arrive(picture, loaded)
        self._advance()

    def _failed(self, picture: Picture, error: Exception, fetch_seconds: float) -> Pixels:
        """An error as a value."""
        if isinstance(error, ImageError):
            return Pixels(failure=Failure(error.code.value, str(error)), fetch_seconds=fetch_seconds)
        log.error(
            "defect while loading an image", job=picture.taken.lease.job, collection=picture.taken.collection,
            id=picture.image.id, ref=picture.image.ref[:200], exc_info=error,
        )  # fmt: skip
        memory_error = error if isinstance(error, MemoryError) else None
        return Pixels(failure=internal(error), fetch_seconds=fetch_seconds, memory_error=memory_error)


def internal(error: Exception) -> Failure:
    """The failure of an image that met a defect."""
    return Failure(
        ErrorCode.INTERNAL.value, f"{type(error).__name__}: a defect of the worker; its log has the traceback"
    )
