"""Keeps Pillow and libtiff from writing to standard error: the ImageError says what is wrong with a file."""

from __future__ import annotations

import ctypes
import logging
import warnings

from PIL import _imaging


def silence_pillow() -> None:
    """Silence Pillow's warnings and log, and libtiff's messages, for this process."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        # libtiff prints errors by itself, from C. Looked up through Pillow, so that it is Pillow's libtiff.
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):  # built without libtiff, or with its names hidden
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    set_handler(None)
