"""What a run of `imagequeue ingest` is asked to do: agreed on at its first start, and kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from imagequeue.contract import Priority
from imagequeue.errors import JournalError, SourceError
from imagequeue.journal_writing import READ, Journal
from imagequeue.sources import STANDARD_INPUT
from imagequeue.sources.columns import Columns
from imagequeue.sources.items import Source
from imagequeue.sources.kinds import Kind, expand, group_source, grouped


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The sources of a run, how they are read, and what is asked for their images."""

    sources: tuple[str, ...] = ()
    kind: Kind = Kind.AUTO
    ref_column: str | None = None
    id_column: str | None = None
    label_column: str | None = None
    base: str | None = None  # the folder of relative paths in lists; None is the list's own
    priority: Priority = Priority.NORMAL
    model: str | None = None
    top_k: int = 5
    expires_in: float | None = None

    def source(self, name: str) -> Source:
        """One of the sources as the journal names it, opened; raises SourceError when nothing is there."""
        columns = Columns(self.ref_column, self.id_column, self.label_column)
        base = None if self.base is None else Path(self.base)
        return group_source(_names(name), self.kind, columns, base, sys.stdin.buffer)


def agree(
    journal: Journal, run: str, arguments: tuple[str, ...], options: Mapping[str, Any]
) -> tuple[Plan, dict[int, Source]]:
    """The plan of a run, and those of its sources, by number, that are not read to their end.

    A new run does what is asked for; a later start goes on with what the run was begun with. `options` are the fields
    of Plan that are asked for expressly. Raises JournalError when these are not what the run was begun with,
    SourceError when a source is not there.
    """
    given = dict(options)
    if given.get("base"):
        given["base"] = os.path.abspath(given["base"])  # noqa: PTH100  links stay as named
    if journal.plan is None:
        return _begin(journal, run, arguments, given)
    plan = msgspec.json.decode(journal.plan, type=Plan)
    if arguments:
        given["sources"] = expand(arguments, plan.kind)
    _check_same(run, plan, msgspec.structs.replace(plan, **given))
    left = {state.number: state.name for state in journal.sources() if state.state != READ}
    if not arguments and any(STANDARD_INPUT in _names(name) for name in left.values()):
        raise SourceError(
            f"the run {run} reads standard input, which is gone; pipe the same lines into "
            f"`imagequeue ingest - --run {run}`"
        )
    return plan, {number: plan.source(name) for number, name in left.items()}


def _begin(
    journal: Journal, run: str, arguments: tuple[str, ...], options: Mapping[str, Any]
) -> tuple[Plan, dict[int, Source]]:
    if not arguments:
        raise SourceError(f"there is no run {run} in {journal.path} to go on with; name its sources")
    plan = msgspec.convert(dict(options), Plan)
    plan = msgspec.structs.replace(plan, sources=expand(arguments, plan.kind))
    if not plan.sources:
        raise SourceError(f"no file matches {', '.join(arguments)}")
    groups = [msgspec.json.encode(names).decode() for names in grouped(plan.sources, plan.kind)]
    sources = {number: plan.source(name) for number, name in enumerate(groups)}
    journal.begin(msgspec.json.encode(plan), groups)
    return plan, sources


def _names(name: str) -> list[str]:
    """The arguments that a source of the journal stands for."""
    return msgspec.json.decode(name, type=list[str])


def _check_same(run: str, before: Plan, now: Plan) -> None:
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    changed = [
        f"{name.replace('_', '-')} was {_shown(old[name])}, now {_shown(new[name])}"
        for name in old
        if old[name] != new[name]
    ]
    if changed:
        raise JournalError(
            f"the run {run} was begun otherwise: {'; '.join(changed)}. Start it without sources and their options, or "
            "give this one another name"
        )


def _shown(value: object) -> str:
    text = (
        " ".join(map(str, value)) if isinstance(value, list | tuple) else "the default" if value is None else str(value)
    )
    return text if len(text) <= 200 else f"{text[:190]}…"
