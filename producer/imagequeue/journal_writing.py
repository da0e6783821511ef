"""Writing a run's journal: what is noted before it is submitted, and settled when its result is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from imagequeue.contract import Image, Result
from imagequeue.journal_file import ROWS_PER_READ, journal_errors, lock, open_for_writing, transaction
from imagequeue.sources.items import Found, Unreadable
from imagequeue.streaming import as_entry

READING, READ, BROKEN = "reading", "read", "broken"
"""States of a source; a broken one is tried again from its cursor when the run is started again."""


class Counts(msgspec.Struct, frozen=True):
    """A run in numbers; `images == ok + error + in_flight`.

    `duplicates` were named again with the same reference; `problems` could not be submitted; `again` had been accepted
    by Redis, which then lost them or their results, and were submitted again.
    """

    images: int = 0
    ok: int = 0
    error: int = 0
    duplicates: int = 0
    problems: int = 0
    again: int = 0

    @property
    def in_flight(self) -> int:
        """Images without a result."""
        return self.images - self.ok - self.error


class SourceState(msgspec.Struct, frozen=True):
    """How far one source is read."""

    number: int
    name: str
    cursor: str
    state: str


class Noted(msgspec.Struct, frozen=True):
    """What became of what a source gave: the images that are new, and what is to be told."""

    new: tuple[Image, ...]
    problems: tuple[Unreadable, ...]
    duplicates: int


class Journal:
    """The journal of one run, open for writing by this process alone; a context manager.

    Raises JournalError when another process has it, it is no journal, or the disk does not take it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with journal_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ExitStack() as opened:
                opened.callback(os.close, lock(path))
                self._database = open_for_writing(path)
                opened.callback(self._database.close)
                self._counts = Counter({name: int(self._fact(name) or 0) for name in Counts.__struct_fields__})
                self._sent = int(self._fact("sent") or 0)
                self._opened = opened.pop_all()
        self._changed: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; another process may have it then."""
        self._opened.close()

    # --- what is known ------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """The run in numbers."""
        return Counts(**self._counts)

    @property
    def plan(self) -> bytes | None:
        """What `begin` was given; None in a new journal."""
        found: bytes | None = self._fact("plan")
        return found

    @property
    def entry(self) -> str | None:
        """The completion entry up to which results were collected."""
        found: str | None = self._fact("entry")
        return found

    def sources(self) -> list[SourceState]:
        """All sources, in their order."""
        return [
            SourceState(*row) for row in self._rows("SELECT number, name, cursor, state FROM sources ORDER BY number")
        ]

    def unsettled(self, *, sent: bool) -> Iterator[tuple[Image, ...]]:
        """Images without a result that Redis has accepted before (`sent`), or that it may never have seen."""
        first, last = (0, self._sent) if sent else (self._sent, self._last_number())
        query = (
            "SELECT number, id, ref FROM images WHERE status IS NULL AND number > ? AND number <= ? "
            "ORDER BY number LIMIT ?"
        )
        while page := self._rows(query, first, last, ROWS_PER_READ):
            first = page[-1][0]
            yield tuple(Image(id=id_, ref=ref) for _, id_, ref in page)

    # --- what changes -------------------------------------------------------------------------------------------

    def begin(self, plan: bytes, sources: Sequence[str]) -> None:
        """Write down what the run is asked to do; `sources` are their names."""
        with self._transaction():
            self._put("plan", plan)
            fresh = [(number, name, "", READING) for number, name in enumerate(sources)]
            self._database.executemany("INSERT INTO sources VALUES (?, ?, ?, ?)", fresh)

    def note(self, source: int, found: Iterable[Found]) -> Noted:
        """Write down what a source gave, and the cursor behind it; the images that are new are to be submitted."""
        new: list[Image] = []
        problems: list[Unreadable] = []
        duplicates = 0
        cursor = None
        with self._transaction():
            for item in found:
                cursor = item.cursor
                if isinstance(item, Unreadable):
                    problems.append(item)
                elif self._insert(item.image, item.label):
                    new.append(item.image)
                elif self._ref_of(item.image.id) == item.image.ref:
                    duplicates += 1
                else:
                    why = f"id {item.image.id!r} has named another reference before; the first one counts"
                    problems.append(Unreadable(item.place, why, item.cursor))
            for problem in problems:
                self._add_problem(problem.place, problem.why)
            self._add("images", len(new))
            self._add("duplicates", duplicates)
            if cursor is not None:
                self._database.execute("UPDATE sources SET cursor = ? WHERE number = ?", (cursor, source))
        return Noted(tuple(new), tuple(problems), duplicates)

    def end_source(self, source: int, state: str) -> None:
        """Note that a source is read to its end, or broke off."""
        with self._transaction():
            self._database.execute("UPDATE sources SET state = ? WHERE number = ?", (state, source))

    def all_sent(self) -> None:
        """Note, with the next transaction, that Redis has accepted every image that stands here."""
        self._sent = self._last_number()

    def sent_again(self, images: int) -> None:
        """Count images that Redis had accepted before and did not know any more."""
        with self._transaction():
            self._add("again", images)

    def reject(self, image: Image, why: str) -> None:
        """Take an image back that Redis does not accept: it becomes a problem."""
        with self._transaction():
            if self._database.execute("DELETE FROM images WHERE id = ? AND status IS NULL", (image.id,)).rowcount:
                self._add("images", -1)
                self._add_problem(image.ref, why)

    def settle(self, results: Iterable[Result], entry: str | None) -> list[Result]:
        """Write results down; return those that are of this run's images.

        A newer result of an image (after `imagequeue requeue`) replaces the older. `entry` is the completion entry up
        to which all were collected, None to leave that as it is.
        """
        with self._transaction():
            own = [result for result in results if self._settle(result)]
            if entry is not None:
                self._put("entry", entry)
        return own

    # --- parts --------------------------------------------------------------------------------------------------

    def _insert(self, image: Image, label: str | None) -> bool:
        query = "INSERT OR IGNORE INTO images (id, ref, label) VALUES (?, ?, ?)"
        return bool(self._database.execute(query, (image.id, image.ref, label)).rowcount)

    def _ref_of(self, id_: str) -> str:
        ((ref,),) = self._rows("SELECT ref FROM images WHERE id = ?", id_)
        return str(ref)

    def _settle(self, result: Result) -> bool:
        found = self._rows("SELECT number, status, entry FROM images WHERE id = ?", result.id)
        if not found:
            return False
        ((number, before, entry),) = found
        if before is not None and as_entry(entry) >= as_entry(result.entry):
            return True
        self._database.execute(
            "UPDATE images SET status = ?, entry = ?, result = ? WHERE number = ?",
            (str(result.status), result.entry, msgspec.json.encode(result), number),
        )
        if before is not None:
            self._add(before, -1)
        self._add(str(result.status), 1)
        return True

    def _last_number(self) -> int:
        ((number,),) = self._rows("SELECT max(number) FROM images")
        return number or 0

    def _add_problem(self, place: str, why: str) -> None:
        self._database.execute("INSERT INTO problems (place, why) VALUES (?, ?)", (place, why))
        self._add("problems", 1)

    def _add(self, name: str, images: int) -> None:
        if images:
            self._counts[name] += images
            self._changed.add(name)

    def _fact(self, name: str) -> Any:  # noqa: ANN401  each name has its own type
        found = self._rows("SELECT value FROM facts WHERE name = ?", name)
        return found[0][0] if found else None

    def _rows(self, query: str, *values: Any) -> list[Any]:  # noqa: ANN401  SQLite's
        with journal_errors(self.path):
            return self._database.execute(query, values).fetchall()

    def _put(self, name: str, value: object) -> None:
        self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        counts = self._counts.copy()
        try:
            with transaction(self._database, self.path):
                yield
                for name in self._changed:
                    self._put(name, self._counts[name])
                self._put("sent", self._sent)
        except BaseException:
            self._counts = counts
            raise
        finally:
            self._changed.clear()
