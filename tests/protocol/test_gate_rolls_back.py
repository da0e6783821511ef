"""gate.lua under every possible error: whichever command of a publication raises, the image is where it was."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import redis

from imagequeue import Producer, contract
from imagequeue.contract import ErrorCode
from imagequeue.scripts import script_text
from imagequeue_worker.jobs import FinishedJob, TakenJob, image_row
from imagequeue_worker.protocol import Protocol
from queue_state import (
    COLLECTION,
    QUEUE,
    RESULT_TTL,
    RQ,
    check_invariants,
    error,
    everything,
    fields_expire,
    ok,
    pending,
    results,
    submit,
)

# Counts the commands of a script that follow this text, and raises in place of the n-th.
RAISE = """
local commands_left = {n}
local real_redis = redis
local redis = setmetatable({{
  call = function(...)
    commands_left = commands_left - 1
    if commands_left == 0 then error('command {n} raised on demand') end
    return real_redis.call(...)
  end,
}}, {{__index = real_redis}})
"""
COMMANDS_MAX = 60


@pytest.fixture
def job(producer: Producer, worker: Protocol) -> TakenJob:
    """A job of a, b and c that `worker` holds; b will end in an error."""
    submit(producer, *"abc")
    return worker.take(64).jobs[0]


def arguments(connection: redis.Redis, job: TakenJob) -> list:
    answers = [ok(job, "a"), error(job, "b", ErrorCode.NOT_FOUND), ok(job, "c")]
    finished = FinishedJob(job, answers, job.request())
    head = [contract.KEY_PREFIX, RQ, RESULT_TTL, "1" if fields_expire(connection) else "0"]
    rows = [cell for outcome in finished.outcomes for cell in image_row(outcome, finished.request)]
    return [*head, QUEUE, job.lease.job, job.lease.execution, COLLECTION, *rows]


def attempts(connection: redis.Redis, job: TakenJob) -> Iterator[bool]:
    """Publish again and again, each time with an error one command later; whether it went through."""
    text = script_text("publish", "imagequeue_worker.scripts")
    assert re.search("redis.call", text)
    for n in range(1, COMMANDS_MAX):
        try:
            connection.eval(RAISE.format(n=n) + text, 1, f"{RQ}:wip:{QUEUE}", *arguments(connection, job))
        except redis.ResponseError as raised:
            if "raised on demand" not in str(raised):
                raise
            yield False
        else:
            yield True
            return


def test_an_error_anywhere_leaves_no_trace_and_the_next_call_publishes_once(
    job: TakenJob, connection: redis.Redis
) -> None:
    before = without_traces_of_nothing(connection)
    failures = 0
    for went_through in attempts(connection, job):
        check_invariants(connection)
        if went_through:
            break
        failures += 1
        assert without_traces_of_nothing(connection) == before
        assert connection.hget(contract.WAITING_KEY, QUEUE) == b"3"
        assert pending(connection) == {"a", "b", "c"}
    assert failures > 10
    assert set(results(connection)) == {"a", "b", "c"}
    assert connection.xlen(contract.completed_key(COLLECTION)) == 3


def without_traces_of_nothing(connection: redis.Redis) -> dict:
    """Everything, but a stream that is empty again is like one that never was, and a count of 0 like none."""
    found = {key: value for key, value in everything(connection).items() if value}
    totals = found[contract.totals_key(COLLECTION).encode()]
    found[contract.totals_key(COLLECTION).encode()] = {name: count for name, count in totals.items() if count != b"0"}
    return found
