"""What should not be there for long: leases that no worker renews, and pending images that no job carries."""

from __future__ import annotations

from typing import Any

import redis

from imagequeue import contract
from imagequeue.bridge import iterate
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.link import Link
from imagequeue.parts import scan

LEASES_MAX = 1_000  # looked at per queue
PENDING_MAX = 10_000  # looked at per collection
_CARRIED = {b"queued", b"started", b"scheduled", b"deferred"}


def leases_without_worker(link: Link) -> list[str]:
    """The jobs that are leased to workers which Redis does not know, or which have ended."""
    members = [member for queue in QUEUES for member in _leases(link, queue)]
    names = _pipelined(link, [("HGET", f"{RQ_KEY_PREFIX}:execution:{member}", "worker_name") for member in members])
    workers = sorted({name for name in names if name})
    keys = [f"{RQ_KEY_PREFIX}:worker:{name.decode()}" for name in workers]
    births = _pipelined(link, [("HGET", key, "birth") for key in keys])
    deaths = _pipelined(link, [("HGET", key, "death") for key in keys])
    alive = {name for name, birth, death in zip(workers, births, deaths, strict=True) if birth and not death}
    return [
        member.rpartition(":")[0] for member, name in zip(members, names, strict=True) if not (name and name in alive)
    ]


def pending_without_job(link: Link) -> dict[str, int]:
    """How many images of each collection no job carries; of the first ones, and collections without any left out."""
    names = sorted(name.decode() for name in link.call(lambda client: client.smembers(contract.COLLECTIONS_KEY)))
    counts = {name: _uncarried(link, name) for name in names}
    return {name: count for name, count in counts.items() if count}


def _uncarried(link: Link, collection: str) -> int:
    key = contract.pending_key(collection)
    owners: dict[bytes, bytes] = {}
    for part in iterate(scan(link, key, 1_000)):
        owners |= part
        if len(owners) >= PENDING_MAX:
            break
    jobs = sorted(set(owners.values()))
    states = _pipelined(link, [("HGET", _job_key(owner), "status") for owner in jobs])
    gone = {owner for owner, status in zip(jobs, states, strict=True) if status not in _CARRIED}
    suspects = [id_ for id_, owner in owners.items() if owner in gone]
    if not suspects:
        return 0
    # A job may have ended, and its images with it, since they were read.
    still = link.call(lambda client: client.hmget(key, suspects))
    return sum(owner == owners[id_] for id_, owner in zip(suspects, still, strict=True))


def _leases(link: Link, queue: str) -> list[str]:
    found = link.call(lambda client: client.zrange(f"{RQ_KEY_PREFIX}:wip:{queue}", 0, LEASES_MAX - 1))
    return [member.decode() for member in found]


def _job_key(owner: bytes) -> str:
    return contract.job_key(owner.decode(errors="replace").partition("|")[2])


def _pipelined(link: Link, commands: list[tuple[str, ...]]) -> list[Any]:
    """The answers, in order; None for a key of another type. Raises RedisUnavailable or RedisRefused."""

    def send(client: redis.Redis) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, redis.RedisError) and "WRONGTYPE" not in str(answer):
                raise answer
        return [None if isinstance(answer, redis.RedisError) else answer for answer in answers]

    answers: list[Any] = link.call(send) if commands else []
    return answers
