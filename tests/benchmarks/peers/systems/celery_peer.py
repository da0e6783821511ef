"""Celery: Redis as broker and result backend, prefork, one process per worker, many tasks prefetched.

Its guide's advice for short tasks: a high prefetch multiplier, early acknowledgement, no gossip, mingle or events.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from celery import Celery, group
from celery.signals import worker_process_init
from classifier import classifier
from far_end import WAIT_SECONDS, System, serve, setup

app = Celery("celery_peer", broker=setup()["redis_url"], backend=setup()["redis_url"])
app.conf.update(
    worker_prefetch_multiplier=64,
    worker_proc_alive_timeout=WAIT_SECONDS,
    task_acks_late=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@worker_process_init.connect
def load(**_: object) -> None:
    """Before a process takes tasks."""
    classifier()


@app.task
def classify(ref: str) -> int:
    """The task."""
    return classifier().best_classes([ref])[0]


class CelerySystem(System):
    def start(self, workers: int) -> None:
        command = [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "--concurrency", str(workers)]
        command += ["--pool", "prefork", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.run(*command, "--loglevel", "ERROR")

    def classify(self, refs: Sequence[str]) -> list[int]:
        return group(classify.s(ref) for ref in refs)().get(timeout=WAIT_SECONDS)

    def classify_one(self, ref: str) -> int:
        return classify.delay(ref).get(timeout=WAIT_SECONDS)


if __name__ == "__main__":
    import celery_peer

    serve(celery_peer.CelerySystem())
