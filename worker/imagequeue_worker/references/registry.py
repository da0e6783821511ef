"""Which kinds of references there are, and how a reference names its kind."""

from __future__ import annotations

import re
from typing import Final

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import object_stores
from imagequeue_worker.references.allowance import Allowance, ByteBudget
from imagequeue_worker.references.blobs import BlobReader
from imagequeue_worker.references.data_urls import DataReader
from imagequeue_worker.references.lmdbs import LmdbReader
from imagequeue_worker.references.paths import PathReader
from imagequeue_worker.references.sources import Factory, ImageSources
from imagequeue_worker.references.tars import TarReader
from imagequeue_worker.references.web import WebReader

_PATH: Final = "file"
_kinds: dict[str, Factory] = {
    _PATH: PathReader,
    "http": WebReader,
    "https": WebReader,
    "blob": BlobReader,
    "data": DataReader,
    "lmdb": LmdbReader,
    "tar": TarReader,
    **{scheme: object_stores.store(scheme) for scheme in object_stores.SCHEMES},
}

# Two characters at least: `C:\a.jpg` and `a:b.jpg` are paths.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(//)?", re.IGNORECASE)


def register(scheme: str, factory: Factory) -> None:
    """Make `scheme:` a known kind for every `References` built from now on; replaces one of the same name."""
    if not _SCHEME.fullmatch(scheme + ":"):
        raise ValueError(f"scheme is {scheme!r}; a letter, then letters, digits and + . - are allowed, two at least")
    _kinds[scheme.lower()] = factory


def known_kinds() -> tuple[str, ...]:
    """The schemes that are known, in alphabetical order."""
    return tuple(sorted(_kinds))


class References:
    """Fetches references of every registered kind; one object per process, shared by its threads."""

    def __init__(self, sources: ImageSources) -> None:
        made = {factory: factory(sources) for factory in _kinds.values()}  # `http:` and `https:` share one
        self._sources = sources
        self._budget = ByteBudget(sources.bytes_in_flight_max)
        self._fetchers = {scheme: made[factory] for scheme, factory in _kinds.items()}

    def allow(self, ref: str) -> Allowance:
        """What fetching and decoding a reference may cost; its time begins now, its bytes count until it is closed."""
        return Allowance(
            ref, bytes_max=self._sources.image_bytes_max, seconds=self._sources.fetch_seconds, budget=self._budget
        )

    def fetch(self, ref: str, allowance: Allowance | None = None) -> bytes:
        """The bytes behind a reference.

        Raises ImageError: `unsupported_reference` for a kind that is not known, and what the kind raises
        (`not_found`, `forbidden`, `too_large`, `fetch_timeout`, `fetch_failed`, …).
        """
        fetch = self._fetchers[self._kind(ref)]
        if allowance is not None:
            return fetch(ref, allowance)
        with self.allow(ref) as own:
            return fetch(ref, own)

    def _kind(self, ref: str) -> str:
        """The scheme of a reference; `file` for a plain path, which may contain colons.

        `name:` is a scheme when a kind of that name is known, or when `//` follows; in `12:30.jpg` and
        `notes:today.jpg` it is the beginning of a file's name.
        """
        match = _SCHEME.match(ref)
        if match is None:
            return _PATH
        scheme = match[1].lower()
        if scheme in self._fetchers:
            return scheme
        if match[2]:
            known = ", ".join(f"{kind}:" for kind in sorted(self._fetchers))
            raise ImageError(
                ErrorCode.UNSUPPORTED_REFERENCE,
                f"{scheme[:40]}: is no kind of reference that this worker knows; it reads paths and {known}",
            )
        return _PATH
