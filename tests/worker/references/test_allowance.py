"""What references may cost together: bytes in flight, and threads per host."""

import threading
import time

import pytest

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import Allowance, ByteBudget, ImageSources, Lanes, References


def allowance(budget, bytes_max=100, seconds=30.0):
    return Allowance("ref", bytes_max=bytes_max, seconds=seconds, budget=budget)


def test_bytes_count_until_the_allowance_is_closed():
    budget = ByteBudget(100)
    with allowance(budget) as ours:
        ours.expect(30)
        ours.expect(70)
        ours.expect(50)
        assert budget.used == 70
    assert budget.used == 0


def test_one_fetch_may_go_on_above_the_budget_and_the_next_waits_for_it():
    budget = ByteBudget(100)
    first, second, third = (allowance(budget) for _ in range(3))
    first.expect(60)
    second.expect(60)  # the one above
    waiting = threading.Thread(target=third.expect, args=(60,))
    waiting.start()
    second.expect(100)  # may grow
    assert budget.used == 160
    second.close()
    first.close()
    waiting.join()
    assert budget.used == 60


def test_waiting_for_room_is_not_held_against_a_reference():
    budget, given = ByteBudget(100), []
    held = [allowance(budget) for _ in range(2)]
    for one in held:
        one.expect(80)

    def fetch():
        ours, started = allowance(budget, seconds=20.0), time.monotonic()
        ours.expect(80)
        given.append(ours.seconds_left() + time.monotonic() - started - 20.0)

    waiting = threading.Thread(target=fetch)
    waiting.start()
    threading.Event().wait(2.0)
    held[1].close()
    waiting.join()
    assert given[0] > 0.5  # what it waited was given back


def test_many_that_grow_together_all_come_to_their_end():
    """Each holds a part and wants more than there is: none waits for ever, and the bound holds."""
    budget, highest, ended = ByteBudget(300), [], []

    def fetch():
        with allowance(budget) as ours:
            for count in range(10, 101, 10):
                ours.expect(count)
                highest.append(budget.used)
        ended.append(True)

    threads = [threading.Thread(target=fetch) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 50
    assert max(highest) <= 300 + 100
    assert budget.used == 0


def test_references_hold_what_they_have_read_until_it_is_decoded(tmp_path):
    (tmp_path / "a.jpg").write_bytes(bytes(60))
    ours = References(ImageSources(image_roots=(tmp_path,), bytes_in_flight_max=100))
    held = [ours.allow("a.jpg") for _ in range(2)]
    for one in held:
        ours.fetch("a.jpg", one)
    read = threading.Event()
    waiting = threading.Thread(target=lambda: ours.fetch("a.jpg") and read.set())
    waiting.start()
    assert not read.wait(0.2)
    held[1].close()
    assert read.wait(30)
    waiting.join()


def test_an_image_above_the_limit_is_too_large_and_takes_nothing():
    budget = ByteBudget(1000)
    with pytest.raises(ImageError) as caught:
        allowance(budget).expect(101)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert budget.used == 0


# --- lanes ---


def test_a_lane_takes_no_more_threads_than_its_own():
    lanes, release, started, others = Lanes(4, 2), threading.Event(), [], threading.Semaphore(0)

    def hang():
        started.append(True)
        release.wait()

    for _ in range(20):
        lanes.submit("hangs", hang)
    for number in range(20):
        lanes.submit("another" if number % 2 else None, others.release)
    for _ in range(20):
        assert others.acquire(timeout=30)
    assert len(started) == 2
    release.set()
    lanes.close()


def test_what_waits_in_a_lane_is_run_in_order_and_a_defect_does_not_stop_it():
    lanes, ran, done = Lanes(4, 1), [], threading.Event()

    def call(number):
        ran.append(number)
        if number == 99:
            done.set()
        raise ValueError("a defect")

    for number in range(100):
        lanes.submit("host", lambda number=number: call(number))
    assert done.wait(30)
    assert ran == list(range(100))
    lanes.close()


def test_closing_forgets_what_waits():
    lanes, release, ran = Lanes(1, 1), threading.Event(), []
    lanes.submit("host", release.wait)
    for _ in range(5):
        lanes.submit("host", lambda: ran.append(True))
    lanes.close()
    release.set()
    assert ran == []
