"""Waiting without polling: a sleeper wakes when told to, or when a queue has work, which stays there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import redis

from imagequeue import contract
from imagequeue.connection import connect
from imagequeue_worker.waiting import Waker, WorkSignal
from queue_state import QUEUE, queued

LONG_SECONDS = 60.0  # nobody waits for so long: the sleep ends because of what is tested


@pytest.fixture
def waker() -> Waker:
    """Lives as long as the process: a watcher may wake it after its test."""
    return Waker()


def test_a_sleep_ends_when_its_time_is_up(waker: Waker) -> None:
    assert not waker.sleep(0.0)


def test_a_time_below_zero_is_up(waker: Waker) -> None:
    assert not waker.sleep(-1.0)


def test_a_wake_ends_the_next_sleep(waker: Waker) -> None:
    waker.wake()
    assert waker.sleep(LONG_SECONDS)


def test_a_wake_ends_one_sleep_only(waker: Waker) -> None:
    waker.wake()
    waker.sleep(LONG_SECONDS)
    assert not waker.sleep(0.0)


def test_many_wakes_end_one_sleep(waker: Waker) -> None:
    for _ in range(100_000):  # more than a pipe holds
        waker.wake()
    assert (waker.sleep(LONG_SECONDS), waker.sleep(0.0)) == (True, False)


def test_another_thread_ends_a_sleep(waker: Waker) -> None:
    thread = threading.Thread(target=waker.wake)
    thread.start()
    assert waker.sleep(LONG_SECONDS)
    thread.join()


def test_a_signal_handler_ends_a_sleep(waker: Waker) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: waker.wake())
    sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
    try:
        sender.start()
        assert waker.sleep(LONG_SECONDS)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)


# --- queues -------------------------------------------------------------------------------------------------


@pytest.fixture
def work_signal(redis_url: str, waker: Waker, connection: redis.Redis) -> Iterator[WorkSignal]:
    clients = {queue: connect(redis_url, resend=False) for queue in contract.QUEUES}
    ours = WorkSignal(waker, clients)
    ours.start()
    yield ours
    # A watcher that still blocks would move the next test's jobs.
    for queue in contract.QUEUES:
        connection.rpush(contract.queue_key(queue), "the end")


@contextmanager
def push_when_watched(connection: redis.Redis, queue: str) -> Iterator[None]:
    """A job comes into the queue as soon as a watcher blocks on it."""
    with connection.monitor() as monitor:

        def push() -> None:
            wait_for_watcher(monitor)
            connection.rpush(contract.queue_key(queue), "job")

        thread = threading.Thread(target=push)
        thread.start()
        yield
        thread.join()


def wait_for_watcher(monitor: redis.client.Monitor) -> None:
    """Return when the server has seen a watcher's command; `monitor` was entered before it was sent."""
    next(one for one in monitor.listen() if one["command"].startswith("BLMOVE"))


def wait(work_signal: WorkSignal, queues: Sequence[str], seconds: float) -> None:
    work_signal.watch(queues)
    work_signal.sleep(seconds)


def test_a_job_in_a_watched_queue_ends_the_wait(work_signal: WorkSignal, connection: redis.Redis) -> None:
    with push_when_watched(connection, QUEUE):
        wait(work_signal, [QUEUE], LONG_SECONDS)
    assert queued(connection) == ["job"]


def test_a_queue_that_has_work_already_ends_the_wait(work_signal: WorkSignal, connection: redis.Redis) -> None:
    connection.rpush(contract.queue_key(QUEUE), "first", "second")
    wait(work_signal, [QUEUE], LONG_SECONDS)
    assert queued(connection) == ["first", "second"]


def test_any_of_several_queues_ends_the_wait(work_signal: WorkSignal, connection: redis.Redis) -> None:
    with push_when_watched(connection, "classify-low"):
        wait(work_signal, contract.QUEUES, LONG_SECONDS)
    assert queued(connection, "classify-low") == ["job"]


def test_a_queue_that_is_not_watched_does_not_end_the_wait(
    work_signal: WorkSignal, waker: Waker, connection: redis.Redis
) -> None:
    connection.rpush(contract.queue_key("classify-low"), "job")
    wait(work_signal, [], 0.0)
    assert not waker.sleep(0.0)


def test_a_wake_ends_the_wait(work_signal: WorkSignal, waker: Waker) -> None:
    waker.wake()
    wait(work_signal, [QUEUE], LONG_SECONDS)


def test_a_watcher_survives_a_queue_of_another_type(work_signal: WorkSignal, connection: redis.Redis) -> None:
    connection.set(contract.queue_key(QUEUE), "no list")
    with connection.monitor() as monitor:
        wait(work_signal, [QUEUE], 0.0)
        wait_for_watcher(monitor)
    connection.delete(contract.queue_key(QUEUE))
    connection.rpush(contract.queue_key(QUEUE), "job")
    wait(work_signal, [QUEUE], LONG_SECONDS)
    assert queued(connection) == ["job"]


def test_what_fired_is_known_until_it_is_watched_again(work_signal: WorkSignal, connection: redis.Redis) -> None:
    assert not work_signal.has_fired()
    with push_when_watched(connection, QUEUE):
        wait(work_signal, contract.QUEUES, LONG_SECONDS)
    assert work_signal.has_fired()
    connection.delete(contract.queue_key(QUEUE))
    work_signal.watch(contract.QUEUES)
    assert not work_signal.has_fired()


def test_a_wake_that_is_forgotten_ends_no_sleep(work_signal: WorkSignal, waker: Waker) -> None:
    waker.wake()
    work_signal.forget_wakes()
    assert not work_signal.sleep(0.0)
