"""What submit.lua writes into the job's hash: the server's times, and what RQ's own tools need."""

from __future__ import annotations

from datetime import datetime

import pytest
import redis
from rq.job import Job
from rq.serializers import JSONSerializer

from imagequeue import contract
from imagequeue.contract import Image
from imagequeue.orders import Order
from producer_hand import submit

QUEUE = "classify"


def test_images_expire_by_the_servers_clock(connection: redis.Redis) -> None:
    submit(connection, ["a"], job="iq-1", order=Order(expires_in=60.25))
    submitted, expires = connection.hmget(contract.job_key("iq-1"), "submitted_at", "expires_at")
    assert float(expires) - float(submitted) == pytest.approx(60.25, abs=1e-5)


def test_images_without_expiry_have_no_such_field(connection: redis.Redis) -> None:
    submit(connection, ["a"], job="iq-1")
    assert not connection.hexists(contract.job_key("iq-1"), "expires_at")


def test_times_are_the_servers(connection: redis.Redis) -> None:
    before = connection.time()
    submit(connection, ["a"], job="iq-1")
    stamps = connection.hmget(contract.job_key("iq-1"), "submitted_at", "queued_at")
    for stamp in stamps:
        assert before <= tuple(map(int, stamp.split(b"."))) <= connection.time()


def test_rq_can_read_the_job(connection: redis.Redis) -> None:
    order = Order("holidays", model="v2", top_k=3)
    submit(connection, [Image("ü", "/ü.jpg")], job="iq-1", order=order)
    job = Job.fetch("iq-1", connection, serializer=JSONSerializer)
    request = {
        "version": 1,
        "collection": "holidays",
        "model": "v2",
        "top_k": 3,
        "expires_in": None,
        "images": [{"id": "ü", "ref": "/ü.jpg"}],
    }
    assert (job.func_name, job.args, job.kwargs) == (contract.TASK, [], {"request": request})


def test_rq_sees_a_queued_job_that_may_be_retried(connection: redis.Redis) -> None:
    submit(connection, ["a", "b"], job="iq-1")
    job = Job.fetch("iq-1", connection, serializer=JSONSerializer)
    seen = (job.get_status(), job.origin, job.retries_left, job.timeout, job.result_ttl, job.failure_ttl)
    assert seen == ("queued", QUEUE, 2, 3600, 60, 86400)
    assert job.description == "classify 2 images of default"


def test_rq_sees_when_the_job_was_created(connection: redis.Redis) -> None:
    submit(connection, ["a"], job="iq-1")
    job = Job.fetch("iq-1", connection, serializer=JSONSerializer)
    submitted = float(connection.hget(contract.job_key("iq-1"), "submitted_at"))
    assert isinstance(job.created_at, datetime)
    assert job.created_at == job.enqueued_at
    assert job.created_at.timestamp() == pytest.approx(submitted, abs=1e-6)
