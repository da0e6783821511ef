"""Keys of the queue that hold something of another type: somebody else's write. What needs such a key stands still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import NoPermissionError

from imagequeue import contract
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.link import Link

_FLEET = {
    contract.COLLECTIONS_KEY: "set",
    contract.WAITING_KEY: "hash",
    contract.PAUSED_KEY: "set",
    contract.RATES_KEY: "hash",
    f"{RQ_KEY_PREFIX}:queues": "set",
    f"{RQ_KEY_PREFIX}:workers": "set",
}
_REGISTRIES = ("wip", "scheduled", "deferred", "finished", "failed")


def damaged_keys(link: Link) -> list[str]:
    """Each as `<key> holds a <type>, not a <type>`; keys that this user may not see are passed over."""
    damaged = _damaged(link, _FLEET | _of_queues())
    if not any(text.startswith(f"{contract.COLLECTIONS_KEY} ") for text in damaged):
        names = link.call(lambda client: client.smembers(contract.COLLECTIONS_KEY))
        for name in sorted(name.decode() for name in names):
            damaged += _damaged(link, _of_collection(name))
    return damaged


def _of_queues() -> dict[str, str]:
    lists = {contract.queue_key(queue): "list" for queue in QUEUES}
    return lists | {f"{RQ_KEY_PREFIX}:{name}:{queue}": "zset" for queue in QUEUES for name in _REGISTRIES}


def _of_collection(name: str) -> dict[str, str]:
    hashes = (contract.pending_key, contract.results_key, contract.totals_key, contract.dead_key)
    return {key(name): "hash" for key in hashes} | {contract.completed_key(name): "stream"}


def _damaged(link: Link, kinds: Mapping[str, str]) -> list[str]:
    def send(client: Any) -> list[Any]:  # noqa: ANN401  redis-py's
        pipeline = client.pipeline(transaction=False)
        for key in kinds:
            pipeline.type(key)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, NoPermissionError):
                raise answer
        return answers

    return [
        f"{key} holds a {kind.decode()}, not a {kinds[key]}"
        for key, kind in zip(kinds, link.call(send), strict=True)
        if isinstance(kind, bytes) and kind not in (b"none", kinds[key].encode())
    ]
