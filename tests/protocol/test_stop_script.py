"""stop.lua: an operator ends a job that is being worked on."""

from __future__ import annotations

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Finished, Protocol
from queue_state import (
    QUEUE,
    RQ,
    answer,
    check_invariants,
    code_of,
    damaged,
    everything,
    lease_score,
    pending,
    ref_of,
    results,
)


def test_its_images_end_as_cancelled(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    assert worker.stop(job.lease) == 2
    assert {id_: code_of(connection, id_) for id_ in results(connection)} == {"a": "cancelled", "b": "cancelled"}
    assert results(connection)["a"].ref == ref_of("a")
    check_invariants(connection)


def test_rq_files_it_as_stopped(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    worker.stop(job.lease)
    stopped = Job.fetch(job.lease.job, connection=connection, serializer=JSONSerializer)
    assert stopped.is_stopped
    assert stopped.latest_result().exc_string == "stopped"
    assert connection.zscore(f"{RQ}:failed:{QUEUE}", job.lease.job) is not None


def test_its_lease_is_gone_and_its_answer_is_dropped(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    worker.stop(job.lease)
    assert lease_score(connection, job.lease) is None
    assert worker.finish([answer(job)])[0].code == Finished.LOST
    assert code_of(connection, "a") == "cancelled"


def test_a_job_that_has_ended_is_left_alone(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    worker.finish([answer(job)])
    before = everything(connection)
    assert (worker.stop(job.lease), everything(connection)) == (None, before)


def test_what_was_published_before_stays(job: TakenJob, worker: Protocol, connection: redis.Redis) -> None:
    from queue_state import rows

    worker.publish(job.lease, job.collection, rows(job)[:4])
    assert worker.stop(job.lease) == 1
    assert (code_of(connection, "a"), code_of(connection, "b")) == (None, "cancelled")


@pytest.mark.parametrize("key", [f"{RQ}:wip:{QUEUE}", f"{RQ}:failed:{QUEUE}"])
def test_a_key_of_another_type_leaves_all_as_it_was(
    job: TakenJob, worker: Protocol, connection: redis.Redis, key: str
) -> None:
    with damaged(connection, key):
        before = everything(connection)
        with pytest.raises(redis.ResponseError):
            worker.stop(job.lease)
        assert everything(connection) == before
        assert pending(connection) == {"a", "b"}
