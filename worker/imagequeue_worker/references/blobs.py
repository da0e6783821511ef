"""`blob:` references: bytes that a producer has uploaded into Redis, where they expire."""

from __future__ import annotations

import hashlib
import re
import time
from functools import cached_property
from typing import Any, Final

import redis

from imagequeue.connection import PASSES, backoff
from imagequeue.contract import ErrorCode, blob_key
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.sources import ImageSources

_BLOB: Final = re.compile(r"blob:([0-9a-f]{64})", re.IGNORECASE)


class BlobReader:
    """Reads uploaded bytes; a `Fetch`. Its client is shared by the threads, and connects when it is first used."""

    def __init__(self, sources: ImageSources) -> None:
        self._connect = sources.redis

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The bytes, checked against the checksum that names them.

        Raises ImageError: `not_found` (expired, or never uploaded), `corrupt` (other bytes than were uploaded),
        `too_large`, `fetch_failed` and `fetch_timeout` (Redis is away), `unsupported_reference` (no checksum, or a
        worker without Redis).
        """
        named = _BLOB.fullmatch(ref)
        if named is None:
            raise ImageError(ErrorCode.UNSUPPORTED_REFERENCE, f"{shown(ref)}: blob: and 64 hexadecimal digits are read")
        sha256 = named[1].lower()
        data = self._read(blob_key(sha256), ref, allowance)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)} holds other bytes than were uploaded; upload them again")
        return data

    def _read(self, key: str, ref: str, allowance: Allowance) -> bytes:
        """The value of a key. A Redis that is away is waited for: it comes back, and the reference would not."""
        pauses = backoff()
        while True:
            try:
                size = int(self._client.strlen(key))
                allowance.expect(size)
                # The range bounds the answer: the value may have been replaced meanwhile.
                data: Any = self._client.getrange(key, 0, size - 1) if size else b""
                if not data and not self._client.exists(key):
                    raise ImageError(
                        ErrorCode.NOT_FOUND, f"the bytes of {shown(ref)} are not in Redis (any more); upload them again"
                    )
                return bytes(data)
            except PASSES:
                time.sleep(min(next(pauses), allowance.seconds_left()))
            except redis.RedisError as error:
                raise ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} could not be read: {error}") from error

    @cached_property
    def _client(self) -> redis.Redis:
        if self._connect is None:
            raise ImageError(ErrorCode.UNSUPPORTED_REFERENCE, "blob: is read by workers of a queue only")
        return self._connect()
