"""Processes that count images until they are killed, again and again, while somebody scrapes; prints a JSON report.

python metrics_storm.py RESTARTS SLOTS FOLDER
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from prometheus_client import CollectorRegistry

from imagequeue.contract import Outcome, StageSeconds, Status
from imagequeue_worker.jobs import FinishedJob, Lease, TakenJob
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.metrics_server import SlotsCollector, use_metrics_slot

IMAGES = 5  # per publication


def child(folder: Path, slot: int, done: memoryview) -> NoReturn:
    """Publish without end; `done` counts the publications that are recorded."""
    use_metrics_slot(folder, slot)
    metrics = Metrics(CollectorRegistry())
    seconds = StageSeconds(queue=0.1, fetch=0.002, decode=0.003, infer=0.004)
    outcomes = [Outcome(id=str(n), ref="/x", status=Status.OK, seconds=seconds) for n in range(IMAGES)]
    while True:
        job = TakenJob(Lease("classify", "j", "x"), 1, 0, "c", 1.0, 1.1, False, b"", tuple("abcde"))
        metrics.tally.published([(FinishedJob(job), outcomes)], job.taken_monotonic)
        metrics.tally.write()  # at once, so that what is recorded can be compared
        done[slot] += 1


def scrape(folder: Path) -> dict[str, float]:
    """Every series that must not go back."""
    registry = CollectorRegistry()
    registry.register(SlotsCollector(folder))
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for metric in registry.collect()
        if metric.type in ("counter", "histogram")
        for sample in metric.samples
    }


def main(restarts: int, slots: int, folder: Path) -> None:
    done = memoryview(mmap.mmap(-1, 8 * slots)).cast("q")
    pids = dict.fromkeys(range(slots), 0)
    before: dict[str, float] = {}
    steps_back: list[str] = []
    scrapes, slowest = 0, 0.0
    chance = random.Random(7)

    def start(slot: int) -> None:
        pid = os.fork()
        if not pid:
            child(folder, slot, done)
        pids[slot] = pid

    for slot in pids:
        start(slot)
    for number in range(restarts):
        time.sleep(chance.uniform(0, 0.008))  # from before the first byte of a file to the middle of its work
        slot = chance.randrange(slots)
        os.kill(pids[slot], signal.SIGKILL)
        if number % 5 == 0:  # also while one is dead
            began = time.perf_counter()
            now = scrape(folder)
            slowest, scrapes = max(slowest, time.perf_counter() - began), scrapes + 1
            steps_back += [name for name, value in before.items() if now.get(name, -1.0) < value]
            before = now
        os.waitpid(pids[slot], 0)
        start(slot)
    time.sleep(0.2)  # the last ones may have been started just now
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    end = scrape(folder)
    total = sum(value for name, value in end.items() if name.startswith("imagequeue_images_total"))
    print(json.dumps({
        "restarts": restarts, "scrapes": scrapes, "slowest_scrape_ms": round(slowest * 1000, 1),
        "steps_back": steps_back, "counted": total, "recorded": sum(done) * IMAGES,
        "files": sorted(path.name for path in folder.iterdir()),
        "finish_count": sum(v for name, v in end.items() if name.startswith("imagequeue_finish_seconds_count")),
    }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
