"""Where the commands on results read them: Redis, JSON Lines, or the journal of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from imagequeue import journal as journals
from imagequeue.contract import Result
from imagequeue.labels import Labels, from_pairs, read_labels
from imagequeue.options import Command, answering_producer, collection_option, option, redis_url_option
from imagequeue.reports.inputs import from_file, from_json_lines

STANDARD_INPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Origin:
    """What the options of `origin_options` name. Redis, unless a file of results or a run is named."""

    redis_url: str
    collection: str
    results_file: str | None
    run: str | None
    journal: Path | None

    def __post_init__(self) -> None:
        """Raise UsageError when two are named."""
        if self.results_file is not None and (self.run is not None or self.journal is not None):
            raise click.UsageError("results come from one place: name --from, or a run by --run or --journal")

    @property
    def name(self) -> str:
        """What it is called in messages and titles."""
        if self.results_file == STANDARD_INPUT:
            return "standard input"
        return self.results_file or self.run or (str(self.journal) if self.journal else self.collection)

    @property
    def journal_path(self) -> Path | None:
        """The journal that results come from; None where they do not come from one."""
        return self.journal or (journals.journal_path(self.run) if self.run is not None else None)

    @contextmanager
    def results(self, ids: Sequence[str] = ()) -> Iterator[Iterator[Result]]:
        """The results that are there now: all, or of the ids; out of Redis in the order of the ids.

        Raises what reading them raises: RedisUnavailable, ContractError, ConfigurationError, JournalError.
        """
        if (journal := self.journal_path) is not None:
            yield _named(journals.read_results(journal), ids)
        elif self.results_file == STANDARD_INPUT:
            yield _named(from_json_lines(sys.stdin.buffer, self.name), ids)
        elif self.results_file is not None:
            yield _named(from_file(Path(self.results_file)), ids)
        else:
            with answering_producer(self.redis_url) as producer:
                yield producer.results(ids or None, collection=self.collection)

    def labels(self, manifest: Path | None) -> Labels | None:
        """The labels of a manifest, else those that a run's journal has; None when there are none."""
        if manifest is not None:
            return read_labels(manifest)
        if (journal := self.journal_path) is not None:
            return from_pairs(journals.read_labels(journal))
        return None


def _named(results: Iterable[Result], ids: Sequence[str]) -> Iterator[Result]:
    wanted = frozenset(ids)
    return (result for result in results if not wanted or result.id in wanted)


def origin_options(command: Command) -> Command:
    """The options that make an Origin, by the names of its fields."""
    options = (
        collection_option,
        option(
            "from", "results_file", metavar="FILE", help="Read JSON Lines (as of --json) instead; - is standard input."
        ),
        option("run", metavar="NAME", help="Read the journal of this run of `imagequeue ingest` instead."),
        option(
            "journal",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Read this journal instead, where it is not in its usual place.",
        ),
        redis_url_option,
    )
    for add in reversed(options):
        command = add(command)
    return command
