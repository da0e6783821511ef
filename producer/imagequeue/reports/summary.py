"""What results say together: counts, codes, classes, seconds, and with labels how many are right."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from imagequeue.contract import ClassScore, Status
from imagequeue.reports.judging import Judged
from imagequeue.scoring import TOP, Scores, Truth, matches

QUANTILES: Final = (0.5, 0.95, 0.99, 1.0)


class Count(msgspec.Struct, frozen=True):
    """How many images have a code or a class."""

    name: str
    images: int


class ClassRow(msgspec.Struct, frozen=True):
    """How often one known class is right, and what is said instead most often."""

    name: str
    images: int
    right: int
    instead: str | None


class ConfusionRow(msgspec.Struct, frozen=True):
    """How often one class is taken for another."""

    name: str
    said: str
    images: int


class Accuracy(msgspec.Struct, frozen=True):
    """Answers against labels. Errors and pictures without a label count in none of it but in their own numbers.

    `top5` looks among the classes that a result holds: `fewer_than_5` results were asked for less.
    """

    images: int
    top1: float
    top5: float
    fewer_than_5: int
    unlabelled: int
    labelled_errors: int
    classes: tuple[ClassRow, ...]  # missed most first
    confusions: tuple[ConfusionRow, ...]  # most frequent first


class Summary(msgspec.Struct, frozen=True):
    """All of it. `seconds` are from submission to result: p50, p95, p99 and the longest."""

    images: int
    ok: int
    error: int
    codes: tuple[Count, ...]
    classes: tuple[Count, ...]
    seconds: dict[str, float]
    accuracy: Accuracy | None


class Tally:
    """Counts results as they pass; memory is a few bytes per image."""

    def __init__(self, *, labelled: bool) -> None:
        self._labelled = labelled
        self._ok = 0
        self._unlabelled = self._labelled_errors = self._fewer_than_5 = 0
        self._codes: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._seconds = array("d")
        self._scores = Scores()
        self._labels: dict[Truth, str] = {}

    def watch(self, results: Iterable[Judged]) -> Iterator[Judged]:
        """Count each result, and pass it on."""
        for one in results:
            self.add(one)
            yield one

    def add(self, one: Judged) -> None:
        """Count a result."""
        result = one.result
        if result.submitted_at:
            self._seconds.append(result.finished_at - result.submitted_at)
        if result.status is Status.OK and result.classes:
            self._ok += 1
            self._classes[result.classes[0].label] += 1
            self._score(one, result.classes)
        else:
            self._codes[result.error.code if result.error else "no class"] += 1
            self._labelled_errors += one.truth is not None

    def _score(self, one: Judged, classes: tuple[ClassScore, ...]) -> None:
        for answer in classes:
            self._labels.setdefault(answer.index, answer.label)
            self._labels.setdefault(answer.wnid or answer.label, answer.label)
        if one.truth is None:
            self._unlabelled += 1
            return
        self._fewer_than_5 += len(classes) < TOP
        self._scores.add(one.truth, [matches(answer, one.truth) for answer in classes[:TOP]], classes[0].label)

    def name_of(self, truth: Truth) -> str:
        """What a known class is called by the answers that have passed."""
        return self._labels.get(truth) or (f"class {truth}" if isinstance(truth, int) else truth)

    def summary(self, rows_max: int | None = None) -> Summary:
        """What has been counted so far; at most `rows_max` classes, known classes and confusions."""
        errors = self._codes.total()
        return Summary(
            images=self._ok + errors,
            ok=self._ok,
            error=errors,
            codes=tuple(Count(*pair) for pair in self._codes.most_common()),
            classes=tuple(Count(*pair) for pair in self._classes.most_common(rows_max)),
            seconds=_quantiles(self._seconds),
            accuracy=self._accuracy(rows_max) if self._labelled else None,
        )

    def _accuracy(self, rows_max: int | None) -> Accuracy:
        scores = self._scores
        return Accuracy(
            images=scores.images,
            top1=scores.top1,
            top5=scores.top5,
            fewer_than_5=self._fewer_than_5,
            unlabelled=self._unlabelled,
            labelled_errors=self._labelled_errors,
            classes=tuple(
                ClassRow(self.name_of(row.truth), row.images, row.right, row.instead)
                for row in islice(scores.classes(), rows_max)
            ),
            confusions=tuple(
                ConfusionRow(self.name_of(pair.truth), pair.said, pair.images)
                for pair in islice(scores.confusions(), rows_max)
            ),
        )


def summary_of(results: Iterable[Judged], *, labelled: bool, rows_max: int | None = None) -> Summary:
    """Count all of them."""
    tally = Tally(labelled=labelled)
    for one in results:
        tally.add(one)
    return tally.summary(rows_max)


def _quantiles(seconds: array[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    names = ("p50", "p95", "p99", "max")
    return {
        name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for name, q in zip(names, QUANTILES, strict=True)
    }
