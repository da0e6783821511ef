"""The file behind a run's journal: its tables, the lock of the one process that writes, and transactions."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from imagequeue.errors import JournalError

VERSION = 1
ROWS_PER_READ = 1_000  # so that no reader holds the file for long
CACHE_KIB = 16_384

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sources (number INTEGER PRIMARY KEY, name TEXT NOT NULL, cursor TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE images (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ref TEXT NOT NULL, label TEXT, status TEXT, entry TEXT,
  result BLOB
);
CREATE INDEX unsettled ON images (number) WHERE status IS NULL;
CREATE TABLE problems (number INTEGER PRIMARY KEY, place TEXT NOT NULL, why TEXT NOT NULL);
"""


@contextmanager
def journal_errors(path: Path) -> Iterator[None]:
    """Raise JournalError for what SQLite and the file system raise."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"journal {path}: {error}") from error


def lock(path: Path) -> int:
    """Take the lock of a journal, which ends with the process; raise JournalError when another process has it."""
    handle = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise JournalError(f"journal {path} is in use by another process; wait for it, or stop it") from None
    return handle


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open a journal, or make a new one, which only its owner may read: references may hold secrets."""
    path.touch(mode=0o600)
    database = sqlite3.connect(path, isolation_level=None)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # results go from Redis when they are here
        database.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        if _version(database) == 0 and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        _check_version(database, path)
    except BaseException:
        database.close()
        raise
    return database


def rows(path: Path, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, page by page, without the lock; its first column is what `> ?` in it compares with."""
    if not path.is_file():
        raise JournalError(f"there is no journal {path}; `imagequeue ingest` writes one, --journal names another")
    last = 0
    with journal_errors(path), closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database:
        _check_version(database, path)
        while page := database.execute(f"{query} ORDER BY number LIMIT {ROWS_PER_READ}", (last,)).fetchall():
            last = page[-1][0]
            yield from page


@contextmanager
def transaction(database: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All of it is on the disk at the end, or nothing is."""
    with journal_errors(path):
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


def _check_version(database: sqlite3.Connection, path: Path) -> None:
    if (found := _version(database)) != VERSION:
        raise JournalError(f"{path} is no journal of version {VERSION} (it has {found}); name another with --journal")


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)
