"""`http:` and `https:` references: public addresses only, bounded in bytes, time and redirects, and polite.

Redirects are followed here, one request at a time, so that each meets the same checks. Retries stay within the time of
one reference; a server that names a moment to come back is not asked before it, by any of this process' threads.
"""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.addresses import AddressPolicy
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.inflate import inflated
from imagequeue_worker.references.sources import ImageSources

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util import Url

_CHUNK: Final = 1 << 16
_HEADERS: Final = {
    "User-Agent": "imagequeue/1 (image classification worker)",
    "Accept": "image/*,*/*;q=0.1",
    "Accept-Encoding": "identity",
}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MISSING: Final = frozenset({404, 410})
_DENIED: Final = frozenset({401, 402, 403, 407, 451})
_BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAUSE_FIRST_SECONDS: Final = 0.25
_HOSTS_REMEMBERED_MAX: Final = 1024
_HOST: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


class _TryAgain(Exception):  # noqa: N818  a verdict
    """Raised when another try may do: with the error that stands if it does not, and the server's wish."""

    def __init__(self, error: ImageError, pause_seconds: float | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.pause_seconds = pause_seconds


class WebReader:
    """Fetches from web servers; a `Fetch`. One pool of connections for all threads, made at its first use."""

    def __init__(self, sources: ImageSources) -> None:
        self._sources = sources
        self._closed_until: dict[str, float] = {}  # host -> monotonic seconds
        self._making = threading.Lock()
        self._made: PoolManager | None = None

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The body of the final answer.

        Raises ImageError: `forbidden` (an address that is not public, a user in the URL, the server's 401 and 403),
        `not_found` (404, 410), `too_large`, `too_many_redirects`, `fetch_timeout`, `fetch_failed` (no connection, a
        broken answer, any other status), `unsupported_reference` (no URL; a redirect to another kind).
        """
        for number in range(1, self._sources.tries_max + 1):
            try:
                return self._fetch(ref, allowance)
            except _TryAgain as again:
                pause = again.pause_seconds
                if pause is None:
                    pause = _PAUSE_FIRST_SECONDS * 2 ** (number - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                if number == self._sources.tries_max or pause >= allowance.seconds_left():
                    raise again.error from again
                time.sleep(pause)
        raise AssertionError("unreachable: tries_max is at least 1")

    def _fetch(self, ref: str, allowance: Allowance) -> bytes:
        """One try: the request, and those that redirects ask for."""
        url = ref
        for _ in range(self._sources.redirects_max + 1):
            answer = self._request(ref, url, allowance)
            if isinstance(answer, bytes):
                return answer
            url = answer.url
        raise ImageError(
            ErrorCode.TOO_MANY_REDIRECTS,
            f"{shown(ref)} redirects more than {self._sources.redirects_max} times; raise --max-redirects",
        )

    def _request(self, ref: str, text: str, allowance: Allowance) -> bytes | _Redirect:
        from urllib3.exceptions import HTTPError

        from imagequeue_worker.references.guarded import time_limit

        url = _parse(ref, text)
        host = str(url.host)
        self._wait_for(host, ref, allowance)
        try:
            with time_limit(allowance.clock):
                response = self._open(url, allowance)
                try:
                    return self._read(ref, text, host, response, allowance)
                finally:  # a connection whose answer was read to its end has gone back by itself, open
                    response.close()
                    response.release_conn()
        except (HTTPError, OSError, ValueError) as error:  # ValueError: an answer that is no HTTP
            raise self._failure(ref, error, allowance) from error

    def _open(self, url: Url, allowance: Allowance) -> BaseHTTPResponse:
        left = allowance.seconds_left()
        pool = self._manager().connection_from_host(url.host, url.port, url.scheme)
        return pool.urlopen(
            "GET", url.request_uri, headers=_HEADERS, retries=False, redirect=False, timeout=left,
            pool_timeout=left,  # type: ignore[arg-type]  # annotated as whole seconds
            preload_content=False, decode_content=False, assert_same_host=False,
        )  # fmt: skip

    def _read(
        self, ref: str, url: str, host: str, response: BaseHTTPResponse, allowance: Allowance
    ) -> bytes | _Redirect:
        """What an answer comes to: bytes, a redirect, or an error."""
        status = response.status
        if status in _REDIRECTS and (location := response.headers.get("Location")):
            _drain(response)
            return _Redirect(urljoin(url, location))
        if status != 200:
            _drain(response)
            raise self._refusal(ref, host, response)
        if (length := _length(response)) is not None:
            allowance.expect(length)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        return allowance.collect(inflated(response.stream(_CHUNK, decode_content=False), encoding, ref))

    def _refusal(self, ref: str, host: str, response: BaseHTTPResponse) -> Exception:
        status = response.status
        said = f"{shown(ref)}: {host[:200]} answers {status} {(response.reason or '')[:80]}".rstrip()
        if status in _MISSING:
            return ImageError(ErrorCode.NOT_FOUND, said)
        if status in _DENIED:
            return ImageError(ErrorCode.FORBIDDEN, said)
        if status not in _BUSY:
            return ImageError(ErrorCode.FETCH_FAILED, said)
        pause = _retry_after(response.headers.get("Retry-After", ""))
        if pause is not None:
            said += f", and to come back in {pause:.0f} s"
            self._close_until(host, time.monotonic() + pause)
        return _TryAgain(ImageError(ErrorCode.FETCH_FAILED, said), pause)

    def _failure(self, ref: str, error: Exception, allowance: Allowance) -> Exception:
        """What urllib3's errors come to: the time is up, a failure that stays, or another try."""
        from urllib3 import exceptions as urllib3

        ended_by_time = isinstance(error, urllib3.TimeoutError | urllib3.EmptyPoolError)
        ended_by_time = ended_by_time and not isinstance(error, urllib3.NewConnectionError)
        if ended_by_time or allowance.clock() <= 0:
            return allowance.too_late()
        said = ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} could not be fetched: {str(error)[:300]}")
        return (
            said if isinstance(error, urllib3.SSLError | urllib3.NameResolutionError | ValueError) else _TryAgain(said)
        )

    # --- what servers have asked for -----------------------------------------------------------------------------

    def _close_until(self, host: str, moment: float) -> None:
        if len(self._closed_until) >= _HOSTS_REMEMBERED_MAX:
            now = time.monotonic()
            # Of a copy: other threads add to it meanwhile.
            self._closed_until = {name: until for name, until in self._closed_until.copy().items() if until > now}
        self._closed_until[host] = moment

    def _wait_for(self, host: str, ref: str, allowance: Allowance) -> None:
        """Wait until a server may be asked again; raise ImageError `fetch_failed` when that is too late for us."""
        pause = self._closed_until.get(host, 0.0) - time.monotonic()
        if pause <= 0:
            return
        if pause >= allowance.seconds_left():
            raise ImageError(
                ErrorCode.FETCH_FAILED, f"{shown(ref)}: {host[:200]} has asked to be left alone for {pause:.0f} s more"
            )
        time.sleep(pause)

    def _manager(self) -> PoolManager:
        from imagequeue_worker.references.guarded import Guard, make_manager

        with self._making:
            if self._made is None:
                guard = Guard(AddressPolicy(self._sources.allowed_networks), self._sources.resolve)
                self._made = make_manager(guard, self._sources.per_host_max)
            return self._made


@dataclass(frozen=True, slots=True)
class _Redirect:
    url: str


def host_of(ref: str) -> str | None:
    """The host that a reference will be fetched from, roughly: for sharing a worker's threads fairly, nothing else."""
    match = _HOST.match(ref)
    return match[1].lower() if match else None


def _parse(ref: str, text: str) -> Url:
    """A URL that may be asked for; raises ImageError when it may not."""
    from urllib3.exceptions import HTTPError
    from urllib3.util import parse_url

    via = "" if text == ref else f" redirects to {shown(text)}, which"
    try:
        url = parse_url(text)
    except (HTTPError, ValueError) as error:
        raise ImageError(ErrorCode.UNSUPPORTED_REFERENCE, f"{shown(ref)}{via} is no URL: {str(error)[:200]}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ImageError(ErrorCode.UNSUPPORTED_REFERENCE, f"{shown(ref)}{via} is no URL of http: or https: with a host")
    if url.auth is not None:
        raise ImageError(
            ErrorCode.FORBIDDEN, f"{shown(ref)}{via} names a user before an @; this worker logs in nowhere"
        )
    return url


def _length(response: BaseHTTPResponse) -> int | None:
    """The length of the body, where the server tells one."""
    text = response.headers.get("Content-Length", "")
    return int(text[:20]) if text.isascii() and text.isdigit() else None


def _drain(response: BaseHTTPResponse) -> None:
    """Read a short body that nobody wants, so that its connection can be used again."""
    if (length := _length(response)) is not None and length <= _CHUNK:
        for _ in response.stream(_CHUNK, decode_content=False):
            pass


def _retry_after(text: str) -> float | None:
    """The seconds of a Retry-After header: a number, or a date; None for anything else."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
