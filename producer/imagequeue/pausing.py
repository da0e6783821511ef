"""Pausing queues: workers take nothing from a paused queue; what they hold they finish."""

from __future__ import annotations

from imagequeue import contract
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX
from imagequeue.errors import ConfigurationError
from imagequeue.link import BaseLink


async def pause_queue(link: BaseLink, queue: str) -> bool:
    """Pause it; False if it was paused already. Raises ConfigurationError for a queue that nobody knows."""
    await _check_queue(link, queue)
    return bool(await link.ask(lambda client: client.sadd(contract.PAUSED_KEY, queue)))


async def resume_queue(link: BaseLink, queue: str) -> bool:
    """Resume it; False if it was not paused. Raises ConfigurationError for a queue that nobody knows."""
    await _check_queue(link, queue)
    return bool(await link.ask(lambda client: client.srem(contract.PAUSED_KEY, queue)))


async def _check_queue(link: BaseLink, queue: str) -> None:
    """A mistyped name would pause nothing. Workers may serve other queues than ours: those that RQ knows."""
    if queue in QUEUES:
        return
    keys = await link.ask(lambda client: client.smembers(f"{RQ_KEY_PREFIX}:queues"))
    known = {key.decode().removeprefix(contract.queue_key("")) for key in keys} | set(QUEUES)
    if queue not in known:
        raise ConfigurationError(f"queue is {queue!r}; choose {', '.join(sorted(known))}")
