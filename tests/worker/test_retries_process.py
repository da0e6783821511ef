"""Images whose bytes cannot be had just now: tried again, with their neighbours long done."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from imagequeue import Image, Producer, Status
from worker_process import StartWorker


def flaky(times: int, counts: Path, picture: Path) -> str:
    """A picture that cannot be fetched so many times; a byte for each try is in `counts`."""
    return f"fault:flaky:{times}:{counts}:{picture}"


def test_an_image_that_can_be_fetched_later_ends_ok(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    worker = start_worker("--retry-seconds", "0.1")
    images = [Image("flaky", flaky(2, tmp_path / "tries", pictures[0])), Image("good", str(pictures[1]))]
    results = producer.wait(producer.submit_many(images, chunk=2).ids, timeout=60)
    assert [result.status for result in results.values()] == [Status.OK, Status.OK]
    assert (results["flaky"].attempt, results["good"].attempt) == (3, 1)
    assert results["good"].finished_at < results["flaky"].finished_at
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}/metrics", timeout=10) as page:
        assert 'imagequeue_image_retries_total{code="fetch_timeout"} 2.0' in page.read().decode()


def test_after_its_tries_the_error_is_the_result(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    start_worker("--retry-seconds", "0.05", "--retries-max", "2")
    producer.submit(flaky(99, tmp_path / "tries", pictures[0]), id="flaky")
    result = producer.wait(["flaky"], timeout=60)["flaky"]
    assert result.error is not None
    assert (result.error.code, result.attempt) == ("fetch_timeout", 3)
    assert (tmp_path / "tries").stat().st_size == 3


def test_errors_that_will_not_pass_are_not_tried_again(start_worker: StartWorker, producer: Producer) -> None:
    start_worker("--retry-seconds", "600")
    producer.submit("/nowhere/x.jpg", id="x")
    assert producer.wait(["x"], timeout=60)["x"].attempt == 1


def test_without_retries_the_first_error_stands(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    start_worker("--retry-seconds", "600", "--retries-max", "0")
    producer.submit(flaky(1, tmp_path / "tries", pictures[0]), id="flaky")
    assert producer.wait(["flaky"], timeout=60)["flaky"].status is Status.ERROR


def test_another_worker_takes_up_what_a_worker_left_for_later(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    first = start_worker("--retry-seconds", "3")
    submission = producer.submit(flaky(1, tmp_path / "tries", pictures[0]), id="flaky")
    while not (tmp_path / "tries").exists():
        pass
    assert first.stop() == 0
    assert producer.result(submission.id) is None
    start_worker()
    assert producer.wait(["flaky"], timeout=60)["flaky"].status is Status.OK
