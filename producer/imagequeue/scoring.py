"""How often answers are right: top-1, top-5, class by class, and which classes are taken for which.

Counts only: who adds an answer has decided whether it is right (`matches` does for results).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from imagequeue.contract import ClassScore

TOP: Final = 5

Truth = str | int
"""What is on a picture: a wnid or a label, or the index of the net's output."""


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """One class: pictures that have it, those whose best class it is, and what is said instead most often."""

    truth: Truth
    images: int
    right: int
    instead: str | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pictures of one class whose best class is another."""

    truth: Truth
    said: str
    images: int


@dataclass(slots=True)
class Scores:
    """What has been counted so far. Classes are kept under the name, or truth, that the caller adds them by."""

    images: int = 0
    top1_hits: int = 0
    top5_hits: int = 0
    asked: Counter[Truth] = field(default_factory=Counter)  # class -> pictures
    right: Counter[Truth] = field(default_factory=Counter)  # class -> hits
    confused: Counter[tuple[Truth, str]] = field(default_factory=Counter)  # (class, said instead) -> pictures

    def add(self, truth: Truth, hits: Sequence[bool], said: str) -> None:
        """Count one picture: `hits` says of its answers, best first, whether each is right; `said` names the best."""
        first = bool(hits) and hits[0]
        self.images += 1
        self.top1_hits += first
        self.top5_hits += any(hits[:TOP])
        self.asked[truth] += 1
        self.right[truth] += first
        if not first:
            self.confused[truth, said] += 1

    @property
    def top1(self) -> float:
        """The share of pictures whose best class is right."""
        return self.top1_hits / self.images if self.images else 0.0

    @property
    def top5(self) -> float:
        """The share of pictures with the right class among the five best."""
        return self.top5_hits / self.images if self.images else 0.0

    def classes(self) -> Iterator[ClassAccuracy]:
        """Every class, those that are missed most first."""
        instead: dict[Truth, tuple[int, str]] = {}
        for (truth, said), images in self.confused.items():
            instead[truth] = max(instead.get(truth, (0, "")), (images, said))
        for truth in sorted(self.asked, key=lambda truth: (self.right[truth] - self.asked[truth], str(truth))):
            _, other = instead.get(truth, (0, None))
            yield ClassAccuracy(truth, self.asked[truth], self.right[truth], other)

    def confusions(self) -> Iterator[Confusion]:
        """Which class is taken for which, the most frequent first."""
        pairs = sorted(self.confused.items(), key=lambda item: (-item[1], str(item[0][0]), item[0][1]))
        for (truth, said), images in pairs:
            yield Confusion(truth, said, images)


def matches(answer: ClassScore, truth: Truth) -> bool:
    """Whether an answer is the truth: by index where that is a number, else by wnid or label."""
    return answer.index == truth if isinstance(truth, int) else truth in (answer.wnid, answer.label)
