"""References -> bytes. One file per kind, behind one registry.

    registry.py  which kinds there are, and how a reference names its kind
    sources.py   what a kind is made from and what it does
    paths.py     the kind of paths and `file:`; inside the image roots only, by the walks of beneath.py

A new kind is one file with a factory, and one line in the table of `registry.py`.
"""

from __future__ import annotations

from imagequeue_worker.references.registry import References, known_kinds, register
from imagequeue_worker.references.sources import Factory, Fetch, ImageSources

__all__ = ["Factory", "Fetch", "ImageSources", "References", "known_kinds", "register"]
