"""The journal of a run of `imagequeue ingest`: one SQLite file that outlives Redis' day and every kill.

    images    number, id, ref, label, status, entry, result: one row per image, in the order of the sources
    sources   number, name, cursor, state: how far each source is read
    problems  number, place, why: what was found in the sources and could not be submitted
    facts     name, value: the plan, the place in the completion stream, counters

An image is written down before it is submitted, together with the cursor behind it. So whatever Redis has accepted has
a row here, and a row without a result is submitted again when the run is started again: its id makes that harmless.
Every method that writes is one transaction, on the disk when it returns.

`Journal` in journal_writing.py writes it. Readers need no lock, also while the run goes on:

    from imagequeue.journal import journal_path, read_results
    for result in read_results(journal_path("holidays")): ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from imagequeue import contract
from imagequeue.contract import Result
from imagequeue.journal_file import rows


def journal_path(run: str) -> Path:
    """Where the journal of a run lies unless `--journal` says otherwise: below XDG_STATE_HOME, or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "imagequeue", "runs", f"{contract.check_collection(run)}.sqlite")


def read_results(path: Path) -> Iterator[Result]:
    """The results of a run in the order of its sources, those that are there now.

    Raises JournalError when there is no journal, or it cannot be read.
    """
    for _, text in rows(path, "SELECT number, result FROM images WHERE number > ? AND status IS NOT NULL"):
        yield contract.decode_result(text)


def read_labels(path: Path) -> Iterator[tuple[str, str]]:
    """(image id, label) of the images whose manifest had a label, in the order of the sources.

    A label is what the manifest says: a class index, a wnid or a name. Raises JournalError.
    """
    for _, id_, label in rows(path, "SELECT number, id, label FROM images WHERE number > ? AND label IS NOT NULL"):
        yield id_, label


def read_problems(path: Path) -> Iterator[tuple[str, str]]:
    """(place, why) of everything in the sources that could not be submitted. Raises JournalError."""
    for _, place, why in rows(path, "SELECT number, place, why FROM problems WHERE number > ?"):
        yield place, why
