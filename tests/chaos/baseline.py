"""What Redis may hold when everything is done: results and their books, and what goes away by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import redis

from imagequeue.contract import KEY_PREFIX, RQ_KEY_PREFIX, WAITING_KEY, pending_key, results_key, totals_key

_P, _R = re.escape(KEY_PREFIX), re.escape(RQ_KEY_PREFIX)

# What stays: results with their books, and RQ's registers.
_STAYS = re.compile(
    rf"{_P}:(results|completed|totals|dead|blob):.+|{_P}:(collections|waiting|rates)"
    rf"|{_R}:(queues|workers|workers:[^:]+|finished:[^:]+|failed:[^:]+|canceled:[^:]+)"
)
# What ages: each of these has an expiry. Workers that were killed take no leave.
_AGES = re.compile(rf"{_R}:(job|results|worker|clean_registries|scheduler-lock):[^:]+|{_R}:clean_groups|{_P}:turn:.+")
_ENDED = {b"finished", b"failed", b"stopped", b"canceled"}


def leftovers(connection: redis.Redis, collection: str) -> list[str]:
    """What should not be there any more, in words; leases, executions, queues and jobs among it."""
    return [*broken_counts(connection, collection), *_missing_results(connection, collection), *_keys(connection)]


def _totals(connection: redis.Redis, collection: str) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in connection.hgetall(totals_key(collection)).items()}


def _missing_results(connection: redis.Redis, collection: str) -> Iterator[str]:
    """Where nothing expires and nothing is submitted afresh, every result that was counted is there."""
    totals, results = _totals(connection, collection), connection.hlen(results_key(collection))
    if results != totals.get("ok", 0) + totals.get("error", 0):
        yield f"there are {results} results, totals say {totals}"


def broken_counts(connection: redis.Redis, collection: str) -> Iterator[str]:
    """The law of the counters: accepted = pending + ok + error, and after the drain nothing waits."""
    totals, pending = _totals(connection, collection), connection.hlen(pending_key(collection))
    if totals.get("accepted", 0) != pending + totals.get("ok", 0) + totals.get("error", 0):
        yield f"totals say {totals}, {pending} images are pending: accepted is not pending + ok + error"
    waiting = {queue.decode(): int(count) for queue, count in connection.hgetall(WAITING_KEY).items() if int(count)}
    if waiting:
        yield f"waiting is {waiting} after the drain"


def _keys(connection: redis.Redis) -> Iterator[str]:
    """Keys that neither stay nor age, with one example for each kind."""
    strange: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for key in connection.scan_iter(count=1000):
        name = key.decode()
        if fault := _judge(connection, name):
            strange[fault] += 1
            examples.setdefault(fault, name)
    for fault, count in strange.items():
        yield f"{count} x {fault}, such as {examples[fault]}"


def _judge(connection: redis.Redis, name: str) -> str | None:
    """What is wrong with a key that is still there; None when nothing is."""
    if _STAYS.fullmatch(name):
        return None
    if not _AGES.fullmatch(name):
        return "key that should be gone"
    life_seconds = connection.ttl(name)
    if life_seconds == -2:  # it has just gone
        return None
    if life_seconds < 0:
        return "key without an expiry"
    if name.startswith(f"{RQ_KEY_PREFIX}:job:") and connection.hget(name, "status") not in _ENDED:
        return "job that has not ended" if connection.exists(name) else None
    return None
