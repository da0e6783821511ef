"""The same job delivered ten times, and the same image ids in five jobs at once: one result, one entry."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale
from chaos.notebook import Notebook
from imagequeue import Image, Producer
from imagequeue.contract import QUEUES, job_key, new_job_id, pending_key, queue_key

DELIVERIES, JOBS = 10, 5
IMAGES_PER_JOB = 8
QUEUE = QUEUES[1]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    workers: int
    rounds: int


SIZES = {Scale.SLICE: Size(3, 20), Scale.FULL: Size(4, 400)}


def run(options: Options) -> Ledger:
    """While workers run: each round has one job that is delivered ten times, and copies of it under other ids."""
    size = SIZES[options.scale]
    with (
        Arena(options, "same_job") as arena,
        Producer(arena.server.url) as producer,
        Notebook(arena.notebook) as notebook,
    ):
        for _ in range(size.workers):
            arena.fleet.start_bare()
        for number in range(size.rounds):
            refs = arena.world.refs
            images = [Image(f"{number}.{one}", refs[(number + one) % len(refs)]) for one in range(IMAGES_PER_JOB)]
            _submit_at_once(arena, producer, images)
            notebook.note(images)
            _deliver_again(arena, images[0].id)
            arena.count("jobs_delivered_ten_times")
            arena.count("images_in_five_jobs", len(images))
        arena.until(arena.drained, "the drain")
        arena.until(lambda: not arena.connection.llen(queue_key(QUEUE)), "the last copies")
        return arena.close_books(workers=size.workers, attempts_max=JOBS * DELIVERIES)


def _submit_at_once(arena: Arena, producer: Producer, images: list[Image]) -> None:
    """Five threads submit the same ids at the same time; one of them gets each accepted."""
    accepted: list[int] = []

    def submit() -> None:
        accepted.append(producer.submit_many(images, collection=COLLECTION).accepted)

    threads = [threading.Thread(target=submit) for _ in range(JOBS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sum(accepted) != len(images):
        raise AssertionError(f"{sum(accepted)} acceptances of {len(images)} images")


def _deliver_again(arena: Arena, id_: str) -> None:
    """Push the job that owns an image again and again, and copies of it, as no producer of ours would."""
    owner = arena.connection.hget(pending_key(COLLECTION), id_)
    if owner is None:  # it is done already
        return
    job = owner.decode().partition("|")[2]
    fields = arena.connection.hgetall(job_key(job))
    for _ in range(DELIVERIES - 1):
        arena.connection.rpush(queue_key(QUEUE), job)
    for _ in range(JOBS - 1):
        copy = new_job_id()
        arena.connection.hset(job_key(copy), mapping={**fields, b"status": b"queued"})
        arena.connection.rpush(queue_key(QUEUE), copy)
