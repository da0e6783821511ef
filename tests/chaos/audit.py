"""The one checker: compares a producer's notebook with what is in Redis after the drain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import redis

from chaos.baseline import leftovers
from chaos.ledger import Findings
from chaos.world import Answer, Truth
from imagequeue.contract import ErrorCode, Result, Status, completed_key, decode_result, results_key
from imagequeue.errors import ContractError

EXAMPLES_MAX = 10
PAGE = 5_000
COLLECTION = "storm"

Entry = tuple[int, int]
"""A stream id: milliseconds and sequence."""


def audit(
    connection: redis.Redis,
    notebook: Mapping[str, str],
    truth: Truth,
    *,
    attempts_max: int,
    collection: str = COLLECTION,
    look_for: Callable[[redis.Redis, str], Iterable[str]] = leftovers,
) -> Findings:
    """Count what became of every image of the notebook, and look for what should not be there.

    Results of images that were never acknowledged (their producer died before it heard) must be right, too.
    """
    tally = _Tally(truth, attempts_max, _completions(connection, collection))
    results = _results(connection, collection)
    for id_, ref in notebook.items():
        tally.judge(id_, ref, results.pop(id_, None))
    for id_, text in results.items():
        tally.judge(id_, None, text)
    return tally.findings(len(notebook), list(look_for(connection, collection)))


@dataclass(slots=True)
class _Tally:
    """The counts of one audit."""

    truth: Truth
    attempts_max: int
    completions: dict[str, list[Entry]]
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    attempts_largest: int = 0

    def judge(self, id_: str, ref: str | None, text: bytes | None) -> None:
        """Count one image; `ref` is None when it was never acknowledged."""
        if text is None:
            self._note("lost", f"{id_} was accepted and has no result")
            return
        if ref is not None:
            self.counts["terminal"] += 1
        try:
            result = decode_result(text)
        except ContractError as error:
            self._note("wrong", f"{id_}: {error}")
            return
        self._judge_answer(id_, result.ref if ref is None else ref, result, acknowledged=ref is not None)
        self._judge_entries(id_, result)
        self.attempts_largest = max(self.attempts_largest, result.attempt)
        if not 0 <= result.attempt <= self.attempts_max:
            self._note("over_attempts", f"{id_} was taken {result.attempt} times; {self.attempts_max} are allowed here")

    def _judge_answer(self, id_: str, ref: str, result: Result, *, acknowledged: bool) -> None:
        code = result.error.code if result.error else None
        if acknowledged and result.status is Status.OK:
            self.counts["ok"] += 1
        elif acknowledged:
            self.errors[str(code)] += 1
        expected = self.truth.get(ref)
        if isinstance(expected, Answer):
            found: object = (result.id, result.ref, result.status, result.classes, result.model)
            right = found == (id_, ref, Status.OK, expected.classes, expected.model)
        else:
            right = (result.id, result.status, code) == (id_, Status.ERROR, expected)
        if not right:
            self._note("wrong", f"{id_} ({ref}) is {result.status.value} {result.error or result.classes}")
            if code == ErrorCode.WORKER_LOST:
                self.counts["innocent_worker_lost"] += 1

    def _judge_entries(self, id_: str, result: Result) -> None:
        entries = self.completions.get(id_, [])
        if len(entries) > 1:
            self._note("doubled", f"{id_} has {len(entries)} completion entries")
        elif not entries or entries[0] != _entry(result.entry.encode()):
            self._note("unannounced", f"{id_} names the entry {result.entry}; the stream has {entries}")

    def _note(self, count: str, example: str) -> None:
        self.counts[count] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{count}: {example}")

    def findings(self, accepted: int, left_over: list[str]) -> Findings:
        counts = self.counts
        return Findings(
            accepted=accepted,
            terminal=counts["terminal"],
            ok=counts["ok"],
            errors=dict(self.errors),
            lost=counts["lost"],
            wrong=counts["wrong"],
            doubled=counts["doubled"],
            unannounced=counts["unannounced"],
            innocent_worker_lost=counts["innocent_worker_lost"],
            over_attempts=counts["over_attempts"],
            attempts_largest=self.attempts_largest,
            leftovers=left_over,
            examples=self.examples,
        )


def _results(connection: redis.Redis, collection: str) -> dict[str, bytes]:
    found = connection.hscan_iter(results_key(collection), count=PAGE)
    return {id_.decode(): text for id_, text in found}


def _completions(connection: redis.Redis, collection: str) -> dict[str, list[Entry]]:
    """The completion entries of every image. Storms are shorter than a result's life: nothing has been trimmed."""
    completions: dict[str, list[Entry]] = {}
    after = "-"
    while page := connection.xrange(completed_key(collection), after, count=PAGE):
        for entry, fields in page:
            completions.setdefault(fields[b"id"].decode(), []).append(_entry(entry))
        after = "(" + page[-1][0].decode()
    return completions


def _entry(text: bytes) -> Entry:
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)
