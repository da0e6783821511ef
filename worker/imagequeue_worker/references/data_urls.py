"""`data:` references, which carry their bytes (RFC 2397)."""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references.allowance import Allowance, shown
from imagequeue_worker.references.sources import ImageSources

_DATA: Final = re.compile(r"data:(?P<type>[^,]*),(?P<body>.*)", re.IGNORECASE | re.DOTALL)
_BLANKS: Final = bytes.maketrans(b"", b""), b" \t\r\n"


class DataReader:
    """Reads bytes out of the reference itself; a `Fetch`. The media type is not looked at: the bytes tell."""

    def __init__(self, sources: ImageSources) -> None:
        """Nothing of the settings is needed."""

    def __call__(self, ref: str, allowance: Allowance) -> bytes:
        """The bytes. Raises ImageError: `corrupt` (no comma, broken base64), `too_large`."""
        match = _DATA.fullmatch(ref)
        if match is None:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)} has no comma; write data:image/jpeg;base64,…")
        allowance.expect(len(match["body"]))
        body = unquote_to_bytes(match["body"])
        if not match["type"].lower().rstrip().endswith(";base64"):
            return body
        text = body.translate(*_BLANKS).rstrip(b"=")
        try:
            return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
        except binascii.Error as error:
            raise ImageError(ErrorCode.CORRUPT, f"{shown(ref)} holds broken base64: {error}") from error
