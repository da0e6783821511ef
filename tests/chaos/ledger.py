"""The ledger: what a storm did, what was accepted, what became of it. README's table is made from its file."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import msgspec
import redis

PACKAGES = ("imagequeue", "redis", "rq")


class Scale(StrEnum):
    """How much of a storm is run."""

    SLICE = "slice"  # what `make test` runs
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Options:
    """What every storm is told. The same seed makes the same work and choices; the kernel's timing is its own."""

    folder: Path  # for the net, the notebooks and all logs
    scale: Scale = Scale.SLICE
    seed: int = 1


class Spread(msgspec.Struct, frozen=True):
    """How a duration in seconds was spread over `count` observations."""

    count: int
    p50: float
    p99: float
    largest: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Spread | None:
        """The spread of these, None when there are none; nearest rank."""
        ordered = sorted(seconds)
        if not ordered:
            return None

        def rank(share: float) -> float:
            return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)], 3)

        return cls(len(ordered), rank(0.5), rank(0.99), round(ordered[-1], 3))


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit counted, in images unless it says otherwise."""

    accepted: int  # acknowledged to the producer, which noted them
    terminal: int  # of those, with a result
    ok: int
    errors: dict[str, int]  # code -> results
    lost: int  # acknowledged and without a result
    wrong: int  # another result than the reference's; includes innocent_worker_lost
    doubled: int  # with more than one completion entry
    unannounced: int  # with a result that the completion stream should name and does not
    innocent_worker_lost: int
    over_attempts: int  # taken more often than this storm allows
    attempts_largest: int
    leftovers: list[str]  # what is in Redis and should not be, and counts that do not add up
    examples: list[str]  # the first violations, in words

    def at(self, place: str) -> Findings:
        """The same, whose texts say where it was."""
        examples = [f"{place}: {text}" for text in self.examples]
        return msgspec.structs.replace(
            self, examples=examples, leftovers=[f"{place}: {text}" for text in self.leftovers]
        )

    @classmethod
    def sum_of(cls, parts: Sequence[Findings]) -> Findings:
        """The findings of many small storms, as of one."""
        errors: Counter[str] = Counter()
        for part in parts:
            errors.update(part.errors)
        counts = ("accepted", "terminal", "ok", "lost", "wrong", "doubled", "unannounced", "innocent_worker_lost")
        return cls(
            **{name: sum(getattr(part, name) for part in parts) for name in (*counts, "over_attempts")},
            errors=dict(errors),
            attempts_largest=max((part.attempts_largest for part in parts), default=0),
            leftovers=[text for part in parts for text in part.leftovers][:100],
            examples=[text for part in parts for text in part.examples][:100],
        )


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """One storm, from the first image to the audit."""

    storm: str
    scale: Scale
    seed: int
    workers: int
    faults: dict[str, int]  # kind (kills, pauses, restarts, cuts …) -> how many were done
    findings: Findings
    violations: dict[str, int] = {}  # what this storm alone forbids -> how often it happened
    figures: dict[str, int] = {}  # what else was counted and is neither a fault nor forbidden
    redelivery_seconds: Spread | None = None  # from a worker's death until its job is back in its queue, or finished
    recovery_seconds: Spread | None = None  # from the fault's end until the next result
    obedience_seconds: Spread | None = None  # from the fault's end until every worker hears RQ's commands again
    seconds: float
    versions: dict[str, str]
    notes: list[str] = []

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, wrong or doubled, and nothing was left behind."""
        found = self.findings
        counts = (found.lost, found.wrong, found.doubled, found.unannounced, found.over_attempts)
        return found.accepted > 0 and not any((*counts, *self.violations.values())) and not found.leftovers

    def __str__(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self)).decode()


def versions(connection: redis.Redis) -> dict[str, str]:
    """What the storm ran on."""
    server = connection.info("server")
    name = server.get("server_name", "redis")
    return {
        "server": f"{name} {server.get(f'{name}_version', server['redis_version'])}",
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{package: metadata.version(package) for package in PACKAGES},
    }


def write_ledgers(path: Path, ledgers: Sequence[Ledger]) -> None:
    """Write them as one JSON document; ledgers of other storms that are in the file stay."""
    before = {ledger.storm: ledger for ledger in (read_ledgers(path) if path.exists() else ())}
    after = before | {ledger.storm: ledger for ledger in ledgers}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(list(after.values())), indent=2) + b"\n")


def read_ledgers(path: Path) -> list[Ledger]:
    """Read what `write_ledgers` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=list[Ledger])
