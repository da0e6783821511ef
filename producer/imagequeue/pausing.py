"""Pausing queues: workers take nothing from a paused queue; what they hold they finish."""

from __future__ import annotations

from imagequeue import contract
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.errors import ConfigurationError
from imagequeue.link import Link


def pause_queue(link: Link, queue: str) -> bool:
    """Pause it; False if it was paused already. Raises ConfigurationError for a queue that nobody knows."""
    _check_queue(link, queue)
    return bool(link.call(lambda client: client.sadd(contract.PAUSED_KEY, queue)))


def resume_queue(link: Link, queue: str) -> bool:
    """Resume it; False if it was not paused. Raises ConfigurationError for a queue that nobody knows."""
    _check_queue(link, queue)
    return bool(link.call(lambda client: client.srem(contract.PAUSED_KEY, queue)))


def _check_queue(link: Link, queue: str) -> None:
    """A mistyped name would pause nothing. Workers may serve other queues than ours: those that RQ knows."""
    if queue in QUEUES:
        return
    keys = link.call(lambda client: client.smembers(f"{RQ_KEY_PREFIX}:queues"))
    known = {key.decode().removeprefix(contract.queue_key("")) for key in keys} | set(QUEUES)
    if queue not in known:
        raise ConfigurationError(f"queue is {queue!r}; choose {', '.join(sorted(known))}")
