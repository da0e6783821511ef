"""How long an image that is submitted now will wait, from what is ahead of it and how fast the workers are."""

from __future__ import annotations

from imagequeue.contract import QUEUES
from imagequeue.link import BaseLink
from imagequeue.orders import queue_of
from imagequeue.status import QueueStatus, read_status


async def read_waiting_time(link: BaseLink, priority: str) -> float | None:
    """Seconds until workers will have finished all that is ahead in the queues; None if nobody can say.

    Raises ConfigurationError if there is no such priority.
    """
    queue = queue_of(priority)
    return waiting_time(await read_status(link), queue)


def waiting_time(status: QueueStatus, queue: str) -> float | None:
    """Workers empty the more urgent queues first, so what waits there is ahead as well.

    None when the queue is paused, or when no worker serves it that has measured itself.
    """
    states = {state.name: state for state in status.queues}
    rate = sum(worker.images_per_second or 0.0 for worker in status.workers if queue in worker.queues)
    if states[queue].paused or rate <= 0:
        return None
    ahead = QUEUES[: QUEUES.index(queue) + 1]
    return sum(states[name].images for name in ahead if not states[name].paused) / rate
