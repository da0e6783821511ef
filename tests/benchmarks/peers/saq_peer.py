"""Jobs per second of one saq worker process: `saq_peer.py URL JOBS CONCURRENCY`.

The jobs do nothing and are all queued before the clock starts; finished jobs are kept, as our results are.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from redis import asyncio as redis
from saq import Worker
from saq.queue.redis import RedisQueue

CHUNK = 500


async def classify(context: Any, *, ref: str) -> dict[str, Any]:
    """The job."""
    return {}


async def main(url: str, jobs: int, concurrency: int) -> None:
    queue = RedisQueue(redis.from_url(url))
    await queue.connect()
    for first in range(0, jobs, CHUNK):
        numbers = range(first, min(first + CHUNK, jobs))
        await asyncio.gather(*(queue.enqueue("classify", ref=f"/nowhere/{number}.jpg") for number in numbers))
    done, finished = 0, asyncio.Event()

    async def count(context: Any) -> None:
        nonlocal done
        done += 1
        if done == jobs:
            finished.set()

    worker: Any = Worker(queue, functions=[classify], concurrency=concurrency, after_process=count)
    started, cpu = time.perf_counter(), time.process_time()
    running = asyncio.create_task(worker.start())
    await finished.wait()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    print(json.dumps({"jobs_per_second": jobs / seconds, "cpu_us": 1e6 * cpu / jobs}))
    await worker.stop()
    running.cancel()
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
