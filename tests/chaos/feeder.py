"""A producer in a process of its own, which may be killed and started again: `python -m chaos.feeder '<errand>'`.

It submits images 0 … count-1, a random number of them per job, to all three queues, and notes what was acknowledged. A
feeder that is started again on the same notebook sends everything that is not noted, with the same ids.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from chaos.notebook import Notebook, read_notebook
from imagequeue import Image, Priority, Producer
from imagequeue.errors import DurabilityUnavailable, RedisRefused, RedisUnavailable

CHUNKS = (1, 1, 4, 16, 16, 64)
PRIORITIES = (Priority.HIGH, *[Priority.NORMAL] * 8, Priority.LOW)


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What a feeder does."""

    url: str
    collection: str
    notebook: str
    refs: list[str]
    count: int
    seed: int
    first: int = 0
    chunks: tuple[int, ...] = CHUNKS
    urgencies: tuple[str, ...] = PRIORITIES
    depth_limit: int = 5_000
    durable: bool = False
    replicas: int = 0


def chunks_of(errand: Errand, noted: dict[str, str]) -> Iterator[tuple[Priority, list[Image]]]:
    """Images that are not noted yet, job by job. The ids are their numbers."""
    rng = random.Random(errand.seed)
    number = errand.first
    end = errand.first + errand.count
    while number < end:
        size = min(rng.choice(errand.chunks), end - number)
        priority = Priority(rng.choice(errand.urgencies))
        images = [Image(f"{one:06}", errand.refs[one % len(errand.refs)]) for one in range(number, number + size)]
        number += size
        if new := [image for image in images if image.id not in noted]:
            yield priority, new


def feed(errand: Errand) -> None:
    """Get everything acknowledged, however long Redis is away; sending again is safe."""
    notebook_path = Path(errand.notebook)
    noted = read_notebook(notebook_path)
    options: dict[str, Any] = {"durable": True, "replicas": errand.replicas} if errand.durable else {}
    with (
        Producer(errand.url, depth_limit=errand.depth_limit) as producer,
        Notebook(notebook_path) as notebook,
    ):
        for priority, images in chunks_of(errand, noted):
            while True:
                try:
                    producer.submit_many(
                        images, chunk=len(images), collection=errand.collection, priority=priority, **options
                    )
                    break
                except (RedisUnavailable, RedisRefused, DurabilityUnavailable) as error:
                    print(error, file=sys.stderr, flush=True)
                    time.sleep(0.1)
            notebook.note(images)


if __name__ == "__main__":
    feed(msgspec.json.decode(sys.argv[1], type=Errand))
