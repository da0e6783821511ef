"""Where references come from: files, folders, manifests, archives, databases, object stores, standard input.

    arguments.py  what stands on the command line of `submit`: the light way, references only
    kinds.py      what stands on the command line of `ingest`: each argument becomes a Source
    items.py      what a Source is and gives: images with ids, places and cursors
    folders.py    folders and globs, in the order of their names
    manifests.py  text, CSV and JSON Lines, out of lines.py, with columns.py
    parquet.py    columns of a Parquet file
    tars.py       members of a tar file
    lmdbs.py      keys of an LMDB
    stores.py     prefixes of S3 and its like

What an extra brings is imported when such a source is read.
"""

from __future__ import annotations

from imagequeue.sources.arguments import (
    IMAGE_SUFFIXES,
    STANDARD_INPUT,
    from_folder,
    from_lines,
    is_reference,
    references,
)

__all__ = ["IMAGE_SUFFIXES", "STANDARD_INPUT", "from_folder", "from_lines", "is_reference", "references"]
