"""What stands on the command line of `ingest`: each argument becomes a Source."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from imagequeue.errors import SourceError
from imagequeue.orders import path_reference
from imagequeue.sources.arguments import STANDARD_INPUT, is_reference
from imagequeue.sources.columns import Columns
from imagequeue.sources.folders import Folder, glob_folder, is_glob
from imagequeue.sources.items import Found, Source, listed
from imagequeue.sources.lmdbs import Lmdb
from imagequeue.sources.manifests import Form, Manifest, Piped, read_csv, read_json_lines, read_text
from imagequeue.sources.parquet import Parquet
from imagequeue.sources.stores import EXTRAS, Store
from imagequeue.sources.tars import Tar


class Kind(StrEnum):
    """What a file is; `auto` goes by its suffix, and a file with another suffix is a picture."""

    AUTO = "auto"
    PICTURE = "picture"
    TEXT = "text"
    CSV = "csv"
    JSON_LINES = "jsonl"
    PARQUET = "parquet"
    TAR = "tar"
    LMDB = "lmdb"


_SUFFIXES = {
    ".txt": Kind.TEXT,
    ".lst": Kind.TEXT,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".jsonl": Kind.JSON_LINES,
    ".ndjson": Kind.JSON_LINES,
    ".parquet": Kind.PARQUET,
    ".tar": Kind.TAR,
    ".mdb": Kind.LMDB,
}
_FORMS: dict[Kind, Form] = {Kind.TEXT: read_text, Kind.CSV: read_csv, Kind.JSON_LINES: read_json_lines}


@dataclass(frozen=True, slots=True)
class Named:
    """Pictures and references that are named themselves. A cursor is how many of them were read."""

    refs: tuple[str, ...]

    def read(self, after: str) -> Iterator[Found]:
        """Those after a cursor."""
        done = int(after or 0)
        for number, ref in enumerate(self.refs[done:], done + 1):
            yield listed(ref, ref, str(number), share=number / len(self.refs))


def recorded_name(argument: str) -> str:
    """The argument as it means the same in every working directory."""
    return argument if argument == STANDARD_INPUT or is_reference(argument) else os.path.abspath(argument)  # noqa: PTH100


def expand(arguments: tuple[str, ...], kind: Kind) -> tuple[str, ...]:
    """The arguments, with a glob of lists and archives (`'shards/*.tar'`) replaced by its files, as they are now."""
    names: list[str] = []
    for argument in arguments:
        if is_glob(argument) and not is_reference(argument) and _kind_of(Path(argument), kind) is not Kind.PICTURE:
            names.extend(map(str, glob_folder(recorded_name(argument)).files()))
        else:
            names.append(recorded_name(argument))
    return tuple(names)


def grouped(names: Iterable[str], kind: Kind) -> list[tuple[str, ...]]:
    """The names in their order; pictures and references that are named themselves in a row belong together."""
    groups: list[tuple[str, ...]] = []
    for own, row in groupby(names, lambda name: _stands_for_itself(name, kind)):
        several = tuple(row)
        groups.extend([several] if own else [(name,) for name in several])
    return groups


def group_source(names: Sequence[str], kind: Kind, columns: Columns, base: Path | None, stdin: BinaryIO) -> Source:
    """The source that a group of names is; raise SourceError when nothing is there."""
    if all(_stands_for_itself(name, kind) for name in names):
        return Named(tuple(name if is_reference(name) else path_reference(Path(name)) for name in names))
    (name,) = names
    return source_of(name, kind, columns, base, stdin)


def source_of(name: str, kind: Kind, columns: Columns, base: Path | None, stdin: BinaryIO) -> Source:
    """The source that an argument stands for; raise SourceError when nothing is there."""
    if name == STANDARD_INPUT:
        return Piped(stdin, _FORMS.get(kind, read_text), columns, base)
    if is_reference(name):
        return Store(name if name.endswith("/") else f"{name}/") if _is_prefix(name) else Named((name,))
    path_ = Path(name)
    if path_.is_dir():
        return Lmdb(path_) if kind is Kind.LMDB or (path_ / "data.mdb").is_file() else Folder(path_)
    if path_.exists():
        return _file_source(path_, _kind_of(path_, kind), columns, base)
    if is_glob(name):
        return glob_folder(name)
    raise SourceError(f"{name!r} is neither a file nor a folder; write file:///… for what only workers see")


def _file_source(path: Path, kind: Kind, columns: Columns, base: Path | None) -> Source:
    if kind in _FORMS:
        return Manifest(path, _FORMS[kind], columns, base)
    if kind is Kind.PARQUET:
        return Parquet(path, columns, base)
    if kind is Kind.TAR:
        return Tar(path)
    return Lmdb(path) if kind is Kind.LMDB else Named((path_reference(path),))


def _stands_for_itself(name: str, kind: Kind) -> bool:
    if name == STANDARD_INPUT:
        return False
    if is_reference(name):
        return not _is_prefix(name)
    return Path(name).is_file() and _kind_of(Path(name), kind) is Kind.PICTURE


def _is_prefix(ref: str) -> bool:
    """Whether it is the prefix of an object store: `s3://bucket` or `s3://bucket/folder/`."""
    scheme, _, path = ref.partition("://")
    return scheme.lower() in EXTRAS and (path.endswith("/") or "/" not in path)


def _kind_of(path: Path, kind: Kind) -> Kind:
    return _SUFFIXES.get(path.suffix.lower(), Kind.PICTURE) if kind is Kind.AUTO else kind
