"""Pictures with known classes: out of a folder, a manifest, or an LMDB of Caffe `Datum` records."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagequeue.sources import from_folder
from imagequeue_worker.errors import WorkerError
from imagequeue_worker.images import Limits, decode
from imagequeue_worker.references.datum import read_datum

_WNID = re.compile(r"(?<![A-Za-z0-9])n\d{8}(?!\d)")

Truth = str | int
"""A wnid, or the index of the net's output."""

Load = Callable[[Limits], NDArray[np.uint8]]
"""Decodes to uint8 `[height, width, 3]`, BGR; raises ImageError or OSError."""


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture that can be loaded, and what is on it."""

    name: str
    truth: Truth
    load: Load


def labelled_pictures(source: Path, labels: Path | None = None) -> Iterator[LabelledPicture]:
    """The pictures of a source, in its order.

    `source` is a folder with wnids in its file or folder names, or with `labels`; a manifest (CSV with the columns
    `file` and `wnid` or `index`, paths being relative to it); or an LMDB. Raises WorkerError when it is none of them.
    """
    if (source / "data.mdb").is_file():
        return _from_lmdb(source)
    if labels is not None:
        return _from_manifest(labels, source if source.is_dir() else labels.parent)
    if source.is_file():
        return _from_manifest(source, source.parent)
    if source.is_dir():
        return _from_folder(source)
    raise WorkerError(f"{source} is neither a folder nor a manifest nor an LMDB")


def count_pictures(source: Path) -> int | None:
    """How many there are, where that is known at once."""
    return _lmdb_entries(source) if (source / "data.mdb").is_file() else None


def _from_folder(folder: Path) -> Iterator[LabelledPicture]:
    for ref in from_folder(folder):
        path = Path(ref)
        found = _WNID.search(path.name) or _WNID.search(path.parent.name)
        if found is None:
            raise WorkerError(
                f"{path} has no wnid (n and eight digits) in its name or its folder's; name a manifest with --labels"
            )
        yield LabelledPicture(str(path), found[0], _file_loader(path))


def _from_manifest(manifest: Path, base: Path) -> Iterator[LabelledPicture]:
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            columns = set(rows.fieldnames or ())
            if "file" not in columns or not columns & {"wnid", "index"}:
                raise WorkerError(
                    f"{manifest} has the columns {sorted(columns)}; `file` and `wnid` or `index` are needed"
                )
            column = "wnid" if "wnid" in columns else "index"
            for row in rows:
                file_name, told = row["file"], row[column]
                if file_name is None or told is None:
                    raise ValueError(f"line {rows.line_num} has no {'file' if file_name is None else column}")
                truth: Truth = told if column == "wnid" else int(told)
                yield LabelledPicture(file_name, truth, _file_loader(base / file_name))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise WorkerError(f"manifest {manifest} cannot be read: {error}") from error


def _file_loader(path: Path) -> Load:
    return lambda limits: decode(path.read_bytes(), limits)


def _from_lmdb(folder: Path) -> Iterator[LabelledPicture]:
    """Records in the order of their keys; their labels are indices."""
    lmdb = _lmdb()
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as database, database.begin() as transaction:
            for key, record in transaction.cursor():
                datum = read_datum(bytes(record))
                yield LabelledPicture(key.decode("utf-8", "replace"), datum.label, datum.picture)
    except lmdb.Error as error:
        raise WorkerError(f"LMDB {folder} cannot be read: {error}") from error


def _lmdb_entries(folder: Path) -> int:
    lmdb = _lmdb()
    try:
        with lmdb.open(str(folder), readonly=True, lock=False) as database:
            return int(database.stat()["entries"])
    except lmdb.Error as error:
        raise WorkerError(f"LMDB {folder} cannot be read: {error}") from error


def _lmdb() -> Any:  # noqa: ANN401  the package has no annotations
    try:
        import lmdb
    except ImportError as error:
        raise WorkerError("lmdb is not installed; pip install 'imagequeue[lmdb]'") from error
    return lmdb
