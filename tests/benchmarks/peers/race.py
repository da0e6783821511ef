"""Round robin: each round gives every contender one turn, A B C A B C …, so that all meet the same weather."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from contender import Contender, Turn
from turns import Array

ROUNDS_LEAST = 3
SLOW = 5  # times the fastest: whoever is slower takes a turn in every fifth round only


class NotComparableError(RuntimeError):
    """Raised when a contender computes something else, so that its time says nothing; gives the counts."""


@dataclass
class Result:
    """A contender's turns at one batch size, by round.

    Attributes:
        form: How it runs the net.
        differing: Values that differ from the reference engine's; 0 for an engine of ours.
        agreeing: Pictures whose best class is a best class of the reference engine's.
        pictures: All pictures.
    """

    contender: Contender
    batch: int
    form: dict[str, Any]
    differing: int
    agreeing: int
    pictures: int
    turns: dict[int, Turn] = field(default_factory=dict)

    @property
    def median_ms(self) -> float:
        """Milliseconds per image: the median over the turns of each turn's median."""
        return statistics.median(turn.median_ms for turn in self.turns.values())

    @property
    def best_ms(self) -> float:
        return min(min(turn.wall_ms) for turn in self.turns.values())

    @property
    def cpu_ms(self) -> float:
        """Processor time, which waiting for the core does not lengthen; a second thread would show here."""
        return statistics.median(turn.cpu_ms for turn in self.turns.values())

    def ratio(self, other: Result) -> tuple[float, float]:
        """This one's time over the other's, wall and processor: medians over the rounds in which both ran."""
        pairs = [(self.turns[number], other.turns[number]) for number in self.turns.keys() & other.turns.keys()]
        wall = statistics.median(mine.median_ms / theirs.median_ms for mine, theirs in pairs)
        return wall, statistics.median(mine.cpu_ms / theirs.cpu_ms for mine, theirs in pairs)

    def as_json(self, peers: Iterable[Result]) -> dict[str, Any]:
        """What `--json` has."""
        return {
            **self.contender.about,
            "batch": self.batch,
            **self.form,
            "ms_per_image": {"median": round(self.median_ms, 3), "best": round(self.best_ms, 3)},
            "cpu_ms_per_image": round(self.cpu_ms, 3),
            "rounds": len(self.turns),
            "calls": sum(len(turn.wall_ms) for turn in self.turns.values()),
            "ratio_to": {
                peer.contender.name: dict(
                    zip(("wall", "cpu"), (round(value, 3) for value in self.ratio(peer)), strict=True)
                )
                for peer in peers
            },
            "values_differing": self.differing,
            "top1_agreeing": [self.agreeing, self.pictures],
        }


@dataclass(frozen=True, slots=True)
class Rules:
    """How a race is run.

    Attributes:
        batches: Images in a call, one race for each.
        rounds: At most so many.
        turn_seconds: How long a turn lasts, at least; one call at least.
        seconds: Stop a race after so long, but not before three rounds; 0 never stops.
        agreeing_least: The share of pictures whose best class a peer must have in common with us. 0 for a net of
            random weights, whose best classes hang on single roundings.
    """

    batches: Sequence[int]
    rounds: int
    turn_seconds: float
    seconds: float
    agreeing_least: float


def race(contenders: Sequence[Contender], batch: int, reference: Array, rules: Rules) -> list[Result]:
    """Measure one batch size; the answers are first compared with our reference, the probabilities of the pictures."""
    results = [_checked(contender, batch, reference, rules.agreeing_least) for contender in contenders]
    every = dict.fromkeys(map(id, results), 1)
    start = time.monotonic()
    for number in range(rules.rounds):
        if rules.seconds and number >= ROUNDS_LEAST and time.monotonic() - start > rules.seconds:
            break
        for result in results:
            if number % every[id(result)] == 0:
                result.turns[number] = result.contender.turn(batch, rules.turn_seconds)
        if number == 0:
            fastest = min(result.median_ms for result in results)
            slow = [result for result in results if result.median_ms > SLOW * fastest]
            every.update((id(result), max(1, min(SLOW, rules.rounds // ROUNDS_LEAST))) for result in slow)
    return results


def _checked(contender: Contender, batch: int, reference: Array, agreeing_least: float) -> Result:
    """Prepare a contender and compare its answers before any time is taken."""
    form = contender.prepare(batch)
    answers = contender.classify(batch)
    best = np.take_along_axis(reference, answers.argmax(axis=1)[:, np.newaxis], axis=1)[:, 0]
    agreeing, pictures = int((best == reference.max(axis=1)).sum()), len(reference)
    differing = int((answers != reference).sum())
    if (contender.ours and differing) or agreeing < agreeing_least * pictures:
        raise NotComparableError(
            f"{contender.name}, batch {batch}: {differing} of {reference.size} values differ, best classes agree on "
            f"{agreeing} of {pictures} pictures; our engines must not differ, peers must agree on {agreeing_least:.0%}"
        )
    return Result(contender, batch, form, differing, agreeing, pictures)
