"""References -> bytes. One file per kind, behind one registry.

In the order of reading:

- registry.py: which kinds there are, and how a reference names its kind
- sources.py: what a kind is made from and what it does; allowance.py: what a reference may cost
- paths.py: paths and `file:`, below the image roots (roots.py) by the walks of beneath.py
- lmdbs.py, tars.py: parts of files (members.py); lmdb_file.py and datum.py read what LMDB and Caffe wrote
- web.py: `http:` and `https:`; guarded.py holds urllib3 to addresses.py; inflate.py
- blobs.py, data_urls.py, object_stores.py: bytes in Redis, in the reference itself, in S3 and its like
- lanes.py: the threads that fetch

A new kind is one file with a factory, and one line in the table of `registry.py`.
"""

from __future__ import annotations

from imagequeue_worker.references.allowance import Allowance, ByteBudget
from imagequeue_worker.references.lanes import Lanes
from imagequeue_worker.references.registry import References, known_kinds, register
from imagequeue_worker.references.sources import Factory, Fetch, ImageSources
from imagequeue_worker.references.web import host_of

__all__ = [
    "Allowance",
    "ByteBudget",
    "Factory",
    "Fetch",
    "ImageSources",
    "Lanes",
    "References",
    "host_of",
    "known_kinds",
    "register",
]
