"""reclaim.lua: what a lost worker held is run again, at once and first; what takes workers down ends."""

from __future__ import annotations

import pytest
import redis
from rq.job import Job
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

from imagequeue import Producer, contract
from imagequeue_worker.jobs import Lease
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    RQ,
    answer,
    code_of,
    damaged,
    end_leases,
    everything,
    field,
    ids_of,
    job_of,
    lease_score,
    member,
    pending,
    queued,
    ref_of,
    results,
    rows,
    submit,
)

LOSSES_MAX = 10


def reclaim(worker: Protocol, losses_max: int = LOSSES_MAX) -> list[tuple[str, str, str]]:
    return worker.reclaim(losses_max=losses_max)


def take_and_lose(worker: Protocol, connection: redis.Redis, images: int = 64) -> list[Lease]:
    """Take jobs and let their leases end."""
    leases = [job.lease for job in worker.take(images).jobs]
    end_leases(connection, *leases)
    return leases


def test_a_lease_that_has_not_ended_is_left_alone(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    worker.take(64)
    before = everything(connection)
    assert (reclaim(other), everything(connection)) == ([], before)


def test_a_lease_that_ends_now_is_reclaimed_before_rq_would(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    connection.zadd(f"{RQ}:wip:{QUEUE}", {member(job.lease): connection.time()[0] + 59})
    assert reclaim(worker) == [(QUEUE, job.lease.job, "requeued")]


def test_a_job_returns_to_the_front_of_its_queue(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, *"abc", chunk=1)
    before = queued(connection)
    take_and_lose(worker, connection, images=1)
    reclaim(worker)
    assert queued(connection) == before


def test_every_job_of_a_lost_worker_returns_to_the_front(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcd", chunk=1)
    before = queued(connection)
    take_and_lose(worker, connection, images=3)
    reclaim(worker)
    assert (sorted(queued(connection)[:3]), queued(connection)[3:]) == (sorted(before[:3]), before[3:])


def test_the_attempt_stays_charged_and_the_loss_is_counted(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    take_and_lose(worker, connection)
    reclaim(worker)
    (job,) = worker.take(64).jobs
    assert (job.attempt, job.losses) == (2, 1)


def test_the_job_waits_from_when_it_was_taken_back(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    connection.hset(contract.job_key(lease.job), "queued_at", "1.0")
    reclaim(worker)
    since = field(connection, lease.job, "queued_at")
    assert float(since or 0) == pytest.approx(connection.time()[0], abs=5)


def test_nothing_of_the_lease_is_left(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    reclaim(other)
    left = [f"{RQ}:wip:{QUEUE}", f"{RQ}:worker:w1:executions", f"{RQ}:execution:{member(lease)}"]
    assert connection.exists(*left, f"{RQ}:executions:{lease.job}") == 0


def test_a_job_is_reclaimed_once(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    take_and_lose(worker, connection)
    assert [len(reclaim(worker)), len(reclaim(other))] == [1, 0]


def test_jobs_of_all_queues_are_reclaimed(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    for priority in ("high", "normal", "low"):
        submit(producer, priority, priority=priority)
        take_and_lose(worker, connection)
    assert [queue for queue, _, _ in reclaim(worker)] == list(contract.QUEUES)


def test_more_jobs_than_one_call_takes_are_reclaimed_by_the_next(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *(f"id-{n}" for n in range(250)), chunk=1)
    take_and_lose(worker, connection, images=250)
    assert sum(len(reclaim(worker)) for _ in range(3)) == 250


def test_a_job_that_is_not_started_any_more_is_dropped(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    connection.hset(contract.job_key(lease.job), "status", "queued")
    assert reclaim(worker) == [(QUEUE, lease.job, "dropped")]


def test_an_entry_without_a_job_is_dropped(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    connection.zadd(f"{RQ}:wip:{QUEUE}", {"gone:iq1n1": 1.0})
    reclaim(worker)
    assert connection.zcard(f"{RQ}:wip:{QUEUE}") == 0


# --- dead workers -------------------------------------------------------------------------------------------


def test_what_a_dead_worker_held_is_reclaimed_at_once(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    reclaimed = other.reclaim(losses_max=LOSSES_MAX, dead_worker="w1")
    assert (reclaimed, queued(connection)) == ([(QUEUE, job.lease.job, "requeued")], [job.lease.job])


def test_what_other_workers_hold_is_left_alone(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b", chunk=1)
    worker.take(1)
    (job,) = other.take(1).jobs
    other.reclaim(losses_max=LOSSES_MAX, dead_worker="w1")
    assert lease_score(connection, job.lease) is not None


def test_ended_leases_of_other_workers_are_left_to_the_next_call(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    take_and_lose(other, connection)
    assert worker.reclaim(losses_max=LOSSES_MAX, dead_worker="w1") == []


def test_what_a_dead_worker_held_is_charged(producer: Producer, worker: Protocol, other: Protocol) -> None:
    submit(producer, "a")
    worker.take(64)
    other.reclaim(losses_max=LOSSES_MAX, dead_worker="w1")
    (job,) = other.take(64).jobs
    assert (job.attempt, job.losses) == (2, 1)


def test_what_a_dead_worker_had_lost_before_is_left_alone(
    producer: Producer, worker: Protocol, other: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    reclaim(other)
    (job,) = other.take(64).jobs
    connection.sadd(f"{RQ}:worker:w1:executions", member(lease))  # an entry that nobody took away
    assert other.reclaim(losses_max=LOSSES_MAX, dead_worker="w1") == []
    assert lease_score(connection, job.lease) is not None


# --- the last loss ------------------------------------------------------------------------------------------


def lose_for_good(producer: Producer, worker: Protocol, connection: redis.Redis) -> Lease:
    """A job of a and b loses its last lease."""
    submit(producer, "a", "b", top_k=7, model="m")
    (lease,) = take_and_lose(worker, connection)
    reclaim(worker, losses_max=1)
    return lease


def test_the_last_loss_ends_a_job(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    told = []
    for _ in range(3):
        take_and_lose(worker, connection)
        told += [what for _, _, what in reclaim(worker, losses_max=3)]
    assert told == ["requeued", "requeued", "worker_lost"]


def test_its_images_end_as_worker_lost(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    lose_for_good(producer, worker, connection)
    assert [code_of(connection, id_) for id_ in "ab"] == ["worker_lost", "worker_lost"]


def test_their_results_name_reference_and_attempt(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    lose_for_good(producer, worker, connection)
    result = results(connection)["a"]
    assert (result.ref, result.attempt) == (ref_of("a"), 1)


def test_they_can_be_asked_for_again(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    lose_for_good(producer, worker, connection)
    letter = contract.decode_request(connection.hget(contract.dead_key(COLLECTION), "a"))
    assert letter == contract.Request(images=(contract.Image("a", ref_of("a")),), top_k=7, model="m")


def test_images_that_the_job_does_not_own_any_more_are_left_alone(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b")
    (job,) = worker.take(64).jobs
    worker.settle(QUEUE, job.lease.job, COLLECTION, rows(job)[:4])
    end_leases(connection, job.lease)
    reclaim(worker, losses_max=1)
    assert [code_of(connection, id_) for id_ in "ab"] == [None, "worker_lost"]


def test_the_job_is_failed_in_rq(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    lease = lose_for_good(producer, worker, connection)
    job = Job.fetch(lease.job, connection=connection, serializer=JSONSerializer)
    seen = job.latest_result()
    assert seen is not None
    assert (job.get_status(), seen.exc_string) == ("failed", "worker_lost")


def test_the_job_is_in_rqs_failed_registry(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    lease = lose_for_good(producer, worker, connection)
    assert connection.zscore(f"{RQ}:failed:{QUEUE}", lease.job) is not None


def test_the_answer_of_a_worker_that_was_only_slow_is_dropped(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    reclaim(worker, losses_max=1)
    assert (worker.finish([answer(job)])[0].code, code_of(connection, "a")) == ("0", "worker_lost")


def test_an_id_that_a_damaged_hash_lists_twice_is_lost_once(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "ids", "a\na")
    take_and_lose(worker, connection)
    reclaim(worker, losses_max=1)
    assert connection.hget(contract.totals_key(COLLECTION), "error") == b"1"


@pytest.mark.parametrize("losses", ["", "abc", "nan", "-inf", "-1000"])
def test_a_damaged_count_of_losses_does_not_take_workers_down_for_ever(
    producer: Producer, worker: Protocol, connection: redis.Redis, losses: str
) -> None:
    submit(producer, "a")
    connection.hset(contract.job_key(job_of(connection, "a")), "losses", losses)
    for _ in range(3):
        take_and_lose(worker, connection)
        reclaim(worker, losses_max=3)
    assert pending(connection) == set()


# --- RQ's own -----------------------------------------------------------------------------------------------


def run_by_rq(connection: redis.Redis, job: str, ended: float = 1.0) -> None:
    """A stock worker holds this job, and its lease has ended."""
    connection.hset(contract.job_key(job), "status", "started")
    connection.zadd(f"{RQ}:wip:{QUEUE}", {f"{job}:0123abc": ended})


def test_rqs_own_executions_are_left_to_rq(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    run_by_rq(connection, "stock")
    before = everything(connection)
    assert (reclaim(worker), everything(connection)) == ([], before)


def test_rqs_own_executions_do_not_hide_ours(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    for number in range(150):
        run_by_rq(connection, f"stock-{number}", ended=0.5)
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    assert reclaim(worker) == [(QUEUE, lease.job, "requeued")]


def test_rqs_cleanup_does_not_hurt_a_live_lease(producer: Producer, worker: Protocol, connection: redis.Redis) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    before = everything(connection)
    registry = StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer)
    registry.cleanup()
    assert (registry.get_job_ids(), everything(connection)) == ([job.lease.job], before)


def test_a_job_that_rqs_cleanup_has_taken_back_is_run_again(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    take_and_lose(worker, connection)
    StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer).cleanup()
    assert ids_of(worker.take(64).jobs) == [["a"]]


def test_a_worker_whose_job_rqs_cleanup_took_back_is_fenced_out(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a")
    (job,) = worker.take(64).jobs
    end_leases(connection, job.lease)
    StartedJobRegistry(QUEUE, connection=connection, serializer=JSONSerializer).cleanup()
    assert worker.finish([answer(job)])[0].code == "0"


# --- damaged keys -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dead_worker", ["", "w1"])
@pytest.mark.parametrize("key", [f"{RQ}:wip:{QUEUE}", f"{RQ}:queue:{QUEUE}"])
def test_a_damaged_queue_keeps_its_jobs_and_no_others(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str, dead_worker: str
) -> None:
    submit(producer, "a", "b", chunk=1)
    kept = take_and_lose(worker, connection)
    submit(producer, "low", priority="low")
    (other,) = take_and_lose(worker, connection)
    with damaged(connection, key):
        assert worker.reclaim(losses_max=10, dead_worker=dead_worker) == [("classify-low", other.job, "requeued")]
    assert {job for _, job, _ in worker.reclaim(losses_max=10, dead_worker=dead_worker)} == {one.job for one in kept}


@pytest.mark.parametrize("key", ["{rq}:results:{job}", "{rq}:worker:w1:executions", "{rq}:failed:{queue}"])
def test_a_damaged_key_that_only_rqs_tools_read_does_not_save_a_job_from_its_last_loss(
    producer: Producer, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    submit(producer, "a")
    (lease,) = take_and_lose(worker, connection)
    with damaged(connection, key.format(rq=RQ, job=lease.job, queue=QUEUE)):
        assert [what for _, _, what in reclaim(worker, losses_max=1)] == ["worker_lost"]
    assert code_of(connection, "a") == "worker_lost"
    assert connection.zcard(f"{RQ}:wip:{QUEUE}") == 0


def test_a_job_hash_of_another_type_does_not_hold_up_the_others(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, "a", "b", chunk=1)
    one, two = take_and_lose(worker, connection)
    with damaged(connection, contract.job_key(one.job)):
        reclaim(worker)
    assert field(connection, two.job, "status") == "queued"


def test_losses_count_from_the_last_image_that_got_a_result(
    producer: Producer, worker: Protocol, connection: redis.Redis
) -> None:
    submit(producer, *"abcdef")
    for _ in range(5):
        (job,) = worker.take(64).jobs
        worker.publish(job.lease, COLLECTION, rows(job)[:4])
        end_leases(connection, job.lease)
        assert [what for _, _, what in reclaim(worker, losses_max=3)] == ["requeued"]
    what = [what for _ in range(2) for lease in take_and_lose(worker, connection) for _, _, what in reclaim(worker, 3)]
    assert (what, pending(connection)) == (["requeued", "worker_lost"], set())
