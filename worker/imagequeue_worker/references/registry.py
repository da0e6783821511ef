"""Which kinds of references there are, and how a reference names its kind."""

from __future__ import annotations

import re
from typing import Final

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.paths import PathReader
from imagequeue_worker.references.sources import Factory, ImageSources

_PATH: Final = "file"
_kinds: dict[str, Factory] = {
    _PATH: PathReader,
}

# Two characters at least: `C:\a.jpg` and `a:b.jpg` are paths.
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]+):(//)?", re.IGNORECASE)
# Kinds of the contract that are written without slashes: never paths, also where a worker does not know them.
_WITHOUT_SLASHES: Final = frozenset({"blob", "data"})


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
        self._fetchers = {scheme: factory(sources) for scheme, factory in _kinds.items()}

    def fetch(self, ref: str) -> bytes:
        """The bytes behind a reference.

        Raises ImageError: `unsupported_reference` for a kind that is not known, and what the kind raises
        (`not_found`, `forbidden`, `too_large`, `fetch_failed`, …).
        """
        return self._fetchers[self._kind(ref)](ref)

    def _kind(self, ref: str) -> str:
        """The scheme of a reference; `file` for a plain path, which may contain colons.

        `name:` is a scheme when a kind of that name is known, when the contract has one, or when `//`
        follows; in `12:30.jpg` and `notes:today.jpg` it is the beginning of a file's name.
        """
        match = _SCHEME.match(ref)
        if match is None:
            return _PATH
        scheme = match[1].lower()
        if scheme in self._fetchers:
            return scheme
        if match[2] or scheme in _WITHOUT_SLASHES:
            known = ", ".join(f"{kind}:" for kind in sorted(self._fetchers))
            raise ImageError(
                ErrorCode.UNSUPPORTED_REFERENCE,
                f"{scheme[:40]}: is no kind of reference that this worker knows; it reads paths and {known}",
            )
        return _PATH
