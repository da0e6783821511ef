"""Ours: `imagequeue-worker run`, and a producer in this process."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from itertools import count

from far_end import WAIT_SECONDS, System, serve, setup, until

from imagequeue import AsyncProducer, Producer
from imagequeue.contract import Image, Result

COLLECTION = "benchmark"


class ImageQueue(System):
    def __init__(self) -> None:
        super().__init__()
        self.producer = Producer(setup()["redis_url"])
        self._ids = (f"image-{number}" for number in count())

    def start(self, workers: int) -> None:
        command = [sys.executable, "-m", "imagequeue_worker.cli", "run", "--redis-url", setup()["redis_url"]]
        command += ["--net", setup()["net"], "--image-root", setup()["images"], "--processes", str(workers)]
        command += ["--metrics-port", "0", "--log-level", "error", *setup().get("flags", ())]
        self.run(*command)
        until(lambda: len(self.producer.status().workers) >= workers, self)

    def classify(self, refs: Sequence[str]) -> list[int]:
        images = [Image(next(self._ids), ref) for ref in refs]
        options = {"chunk": setup()["chunk"]} if "chunk" in setup() else {}
        submission = self.producer.submit_many(images, collection=COLLECTION, **options)
        found = self.producer.wait(submission.ids, collection=COLLECTION, timeout=WAIT_SECONDS)
        return [best(result) for result in found.values()]

    def classify_one(self, ref: str) -> int:
        id_ = self.producer.submit(ref, id=next(self._ids), collection=COLLECTION).id
        return best(self.producer.wait([id_], collection=COLLECTION, timeout=WAIT_SECONDS)[id_])

    def open_loop(self, refs: Sequence[str], due: Sequence[float]) -> list[float]:
        """Submit at the times, and read the completion stream: one thread for all."""
        return asyncio.run(self._open_loop(refs, due))

    async def _open_loop(self, refs: Sequence[str], due: Sequence[float]) -> list[float]:
        first = self.producer.submit(refs[0], id=next(self._ids), collection=COLLECTION).id
        entry = self.producer.wait([first], collection=COLLECTION, timeout=WAIT_SECONDS)[first].entry
        ids = [next(self._ids) for _ in refs]
        seconds: dict[str, float] = {}
        async with AsyncProducer(setup()["redis_url"]) as producer:
            begun = time.perf_counter() + 0.1
            at = {id_: begun + offset for id_, offset in zip(ids, due, strict=True)}

            async def submit() -> None:
                async with asyncio.TaskGroup() as tasks:
                    for id_, ref in zip(ids, refs, strict=True):
                        await asyncio.sleep(max(0.0, at[id_] - time.perf_counter()))
                        tasks.create_task(producer.submit(ref, id=id_, collection=COLLECTION))

            submitting = asyncio.create_task(submit())
            async for result in producer.stream(COLLECTION, entry, timeout=WAIT_SECONDS):
                seconds[result.id] = time.perf_counter() - at[result.id]
                if len(seconds) == len(ids):
                    break
            await submitting
        return [seconds[id_] for id_ in ids]

    def stop(self) -> None:
        super().stop()
        self.producer.close()


def best(result: Result) -> int:
    """The best class; an image that has none is no answer."""
    if not result.classes:
        raise RuntimeError(f"{result.ref}: {result.error}")
    return result.classes[0].index


if __name__ == "__main__":
    serve(ImageQueue())
