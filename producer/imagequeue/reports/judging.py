"""A result beside the known class of its picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imagequeue.contract import Result
from imagequeue.labels import Labels
from imagequeue.scoring import Truth, matches


@dataclass(frozen=True, slots=True)
class Judged:
    """A result, what is on its picture (None: not known), and the place of that among its classes.

    `rank` 1 is the best class; None says that it is not among the classes that the result holds, or is not known.
    """

    result: Result
    truth: Truth | None = None
    rank: int | None = None


def judged(results: Iterable[Result], labels: Labels | None) -> Iterator[Judged]:
    """Compare each result with its label, where there is one."""
    for result in results:
        truth = labels.truth_of(result) if labels is not None else None
        yield Judged(result, truth, None if truth is None else _rank(result, truth))


def _rank(result: Result, truth: Truth) -> int | None:
    return next((rank for rank, answer in enumerate(result.classes, 1) if matches(answer, truth)), None)
