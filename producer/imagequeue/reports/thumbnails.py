"""Small pictures for the contact sheet, by Pillow (the extra `report`): of readable local files and `data:` references.

References come from whoever could submit, so this reads regular files only, of bounded size, of picture formats only,
and nothing over a network. What cannot be shown is None, never an error.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import stat
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar
from urllib.parse import unquote, unquote_to_bytes, urlsplit

T = TypeVar("T")

SIDE_PIXELS: Final = 160
FILE_BYTES_MAX: Final = 64 << 20
PIXELS_MAX: Final = 100_000_000
AHEAD_PER_THREAD: Final = 4
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # none that runs a program, as EPS does


def pillow_is_there() -> bool:
    """Whether thumbnails can be made at all."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        return False
    return True


def thumbnail(ref: str) -> str | None:
    """A `data:image/webp` URL of the picture behind a reference, at most 160 pixels wide and high; None without one."""
    try:
        data = _bytes_of(ref)
        return None if data is None else _shrink(data)
    except Exception:  # a decoder may raise anything on a hostile picture
        return None


def with_thumbnails(items: Iterable[T], ref_of: Callable[[T], str]) -> Iterator[tuple[T, str | None]]:
    """Each item, in order, with its thumbnail; threads work a bounded number of items ahead."""
    threads = min(8, os.cpu_count() or 1)
    ahead: deque[tuple[T, Future[str | None]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="thumbnails") as pool:
        for item in items:
            ahead.append((item, pool.submit(thumbnail, ref_of(item))))
            if len(ahead) >= threads * AHEAD_PER_THREAD:
                first, made = ahead.popleft()
                yield first, made.result()
        while ahead:
            first, made = ahead.popleft()
            yield first, made.result()


def _bytes_of(ref: str) -> bytes | None:
    if ref.startswith("data:"):
        return _bytes_of_data(ref)
    if ref.startswith("file:"):
        url = urlsplit(ref)
        return _bytes_of_file(unquote(url.path)) if url.netloc in ("", "localhost") else None
    return _bytes_of_file(ref) if ref.startswith("/") else None


def _bytes_of_data(ref: str) -> bytes | None:
    kind, comma, body = ref.removeprefix("data:").partition(",")
    if not comma:
        return None
    try:
        return base64.b64decode(unquote(body)) if kind.endswith(";base64") else unquote_to_bytes(body)
    except binascii.Error:
        return None


def _bytes_of_file(path: str) -> bytes | None:
    """A regular file's bytes: opening a FIFO or a device must not hang, or do anything."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116  a path of any form
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_BYTES_MAX:
            return None
        return file.read(FILE_BYTES_MAX)


def _shrink(data: bytes) -> str | None:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata; sizes are checked here
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > PIXELS_MAX:
                return None
            picture.draft("RGB", (SIDE_PIXELS, SIDE_PIXELS))  # a JPEG is decoded at a fraction of its size
            picture.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
            upright = ImageOps.exif_transpose(picture)
            out = io.BytesIO()
            upright.convert("RGB").save(out, "WEBP", quality=60, method=2)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
