"""How many images are taken at once: one while the queue is short, full batches while it is long."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagequeue import Image, Producer
from imagequeue_worker.batch_size import BatchSize
from test_metrics_process import series
from worker_process import StartWorker, until


def wanted(most: int, takes: list[int]) -> list[int]:
    """What each take wants, and the one after the last, where they find so many images."""
    size = BatchSize(most)
    sizes = [size.images]
    for found in takes:
        size.follow(found)
        sizes.append(size.images)
    return sizes


@pytest.mark.parametrize(
    ("takes", "sizes"),
    [
        ([1, 2, 4, 8, 16, 32, 32], [1, 2, 4, 8, 16, 32, 32, 32]),  # a backlog
        ([1, 2, 3, 0, 1], [1, 2, 4, 3, 1, 2]),  # a short one, and then nothing
        ([16, 16, 32], [1, 32, 16, 32]),  # a job is taken whole: jobs of 16 images
        ([64], [1, 32]),
    ],
)
def test_a_take_that_finds_all_it_wants_doubles_what_the_next_one_wants(takes: list[int], sizes: list[int]) -> None:
    assert wanted(32, takes) == sizes


def test_one_image_at_once_stays_one() -> None:
    assert wanted(1, [1, 1, 0]) == [1, 1, 1, 1]


def test_a_backlog_is_worked_off_in_batches_that_grow(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    ids = producer.submit_many([Image(f"{n}", str(pictures[n % 3])) for n in range(100)], chunk=1).ids
    worker = start_worker("--batch-images", "16", "--processes", "1")
    producer.wait(ids, timeout=60)
    until(lambda: series(worker).get("imagequeue_batch_images_sum[]") == 100, worker)
    batches = {key: count for key, count in series(worker).items() if key.startswith("imagequeue_batch_images_bucket")}
    up_to = {float(key.split("'")[3]): count for key, count in batches.items()}
    assert up_to[1] >= 1  # the first
    assert up_to[float("inf")] - up_to[8] >= 4  # of 16
