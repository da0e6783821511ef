"""Bodies that a server has compressed, although it was asked not to: inflated piece by piece, never all at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import shown

_PIECE: Final = 1 << 16
_ZLIB_OR_GZIP: Final = zlib.MAX_WBITS + 32
_PLAIN: Final = frozenset({"", "identity"})
_COMPRESSED: Final = frozenset({"gzip", "x-gzip", "deflate"})


def inflated(chunks: Iterable[bytes], encoding: str, ref: str) -> Iterator[bytes]:
    """The plain bytes of a body, in pieces of at most 64 KiB: whoever reads them may stop before a bomb has gone off.

    Raises ImageError `fetch_failed`: an encoding that was not asked for and is not known, or a damaged body.
    """
    if encoding in _PLAIN:
        yield from chunks
        return
    if encoding not in _COMPRESSED:
        raise ImageError(
            ErrorCode.FETCH_FAILED, f"{shown(ref)} comes in the encoding {encoding[:40]!r}; gzip and deflate are read"
        )
    inflater = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not inflater.eof:
                yield inflater.decompress(rest, _PIECE)
                rest = inflater.unconsumed_tail
        yield inflater.flush(_PIECE)
    except zlib.error as error:
        raise ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} comes in a damaged {encoding}: {error}") from error
    if not inflater.eof:
        raise ImageError(ErrorCode.FETCH_FAILED, f"{shown(ref)} comes in a {encoding} that ends early")
