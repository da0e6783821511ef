"""References into object stores (`s3:`, `gs:`, `az:` …), by fsspec and the package of each store, where installed.

Only the stores below: fsspec knows kinds that read local files, chain into one another or log in elsewhere, and those
are never reached. Endpoints and credentials come from the worker's own environment, never out of a reference: a
filesystem is made with no argument of its URL.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any, Final

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.sources import Fetch, ImageSources

# scheme -> module and class of its filesystem, and the extra that brings them. All of them are asyncio inside.
_STORES: Final = {
    "s3": ("s3fs", "S3FileSystem", "s3"),
    "s3a": ("s3fs", "S3FileSystem", "s3"),
    "gs": ("gcsfs", "GCSFileSystem", "gs"),
    "gcs": ("gcsfs", "GCSFileSystem", "gs"),
    "az": ("adlfs", "AzureBlobFileSystem", "az"),
    "abfs": ("adlfs", "AzureBlobFileSystem", "az"),
}
SCHEMES: Final = tuple(_STORES)


def store(scheme: str) -> Callable[[ImageSources], Fetch]:
    """The kind of one of `SCHEMES`."""
    return lambda _: StoreReader(scheme)


class StoreReader:
    """Reads objects of one kind of store; a `Fetch`. Its filesystem is made at the first use."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._making = threading.Lock()
        self._made: Any = None

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The object's bytes, in one request that asks for no more than may be read.

        Raises ImageError: `unsupported_reference` (its package is not installed; a chain of kinds), `not_found`,
        `forbidden` (no permission, no credentials), `too_large`, `fetch_timeout`, `fetch_failed`.
        """
        if "::" in ref:
            raise ImageError(ErrorCode.UNSUPPORTED_REFERENCE, f"{shown(ref)} chains kinds of references; name one")
        filesystem = self._filesystem()
        path = filesystem._strip_protocol(self._scheme + ref[len(self._scheme) :])
        seconds = allowance.seconds_left()
        read = filesystem._cat_file(path, start=0, end=allowance.bytes_max + 1)
        reading = asyncio.run_coroutine_threadsafe(read, filesystem.loop)
        try:
            data = bytes(reading.result(seconds))
        except TimeoutError as error:
            reading.cancel()
            raise allowance.too_late() from error
        except Exception as error:  # each store has a tree of its own
            if _is_empty(error):
                return b""
            raise _failure(ref, error) from error
        allowance.expect(len(data))
        return data

    def _filesystem(self) -> Any:  # noqa: ANN401  fsspec has no annotations
        module, class_name, extra = _STORES[self._scheme]
        with self._making:
            if self._made is None:
                try:
                    self._made = getattr(importlib.import_module(module), class_name)()
                except ImportError as error:
                    raise ImageError(
                        ErrorCode.UNSUPPORTED_REFERENCE,
                        f"{self._scheme}: needs {module}, which is not installed; pip install 'imagequeue[{extra}]'",
                    ) from error
                except Exception as error:  # its own environment: settings or credentials that are none
                    said = str(error)[:300] or type(error).__name__
                    raise ImageError(
                        ErrorCode.FORBIDDEN, f"{self._scheme}: cannot be used by this worker, as it is set up: {said}"
                    ) from error
            return self._made


def _is_empty(error: BaseException) -> bool:
    """Whether a store says that an object has no byte to begin at: it is empty."""
    text = f"{error!r} {error.__cause__!r}"
    return "InvalidRange" in text or "Requested Range Not Satisfiable" in text


def _failure(ref: str, error: Exception) -> ImageError:
    said = str(error)[:300] or type(error).__name__
    if isinstance(error, FileNotFoundError | IsADirectoryError):
        return ImageError(ErrorCode.NOT_FOUND, f"{shown(ref)} is not there: {said}")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return ImageError(ErrorCode.FORBIDDEN, f"{shown(ref)} may not be read by this worker: {said}")
    return ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} could not be fetched: {said}")
