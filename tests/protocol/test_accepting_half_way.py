"""Any call of a script that accepts images may fail: then nothing has happened, and the next sending accepts them."""

from __future__ import annotations

import pytest
import redis

from imagequeue import Producer, contract
from imagequeue.contract import ErrorCode, Image
from imagequeue.orders import Order
from imagequeue.scripts import script_text
from imagequeue.submitting import arguments_of, keys_of
from imagequeue_worker.protocol import Protocol
from queue_state import answer_errors, check_invariants, drain, pending, queued, ref_of, results, submit

# In front of a script: its n-th redis.call fails. What is undone is undone by redis.pcall.
FAILING = """
local real, calls = redis, 0
local redis = {{call = function(...)
  calls = calls + 1
  if calls == {number} then error('on purpose') end
  return real.call(...)
end, pcall = real.pcall}}
"""
CALLS_MAX = 60  # more than any of these scripts makes


def send(connection: redis.Redis, name: str, ids: list[str], job: str, number: int | None = None) -> list:
    chunk, order = {id_: Image(id_, ref_of(id_)) for id_ in ids}, Order()
    text = (FAILING.format(number=number) if number else "") + script_text(name)
    found = results(connection)
    rows = [cell for id_ in ids for cell in ((id_, found[id_].entry) if name == "requeue" else (id_,))]
    keys = keys_of(chunk, job, order, dead=name != "submit")
    return connection.eval(text, len(keys), *keys, *arguments_of(chunk, job, order, 1000), *rows)


@pytest.mark.parametrize("name", ["submit", "resubmit", "requeue"])
def test_a_call_that_fails_half_way_has_done_nothing(
    operator: Producer, worker: Protocol, connection: redis.Redis, name: str
) -> None:
    failed = 0
    for number in range(1, CALLS_MAX):
        connection.flushdb()
        if name != "submit":
            submit(operator, "a", "b")
            worker.finish([answer_errors(job, ErrorCode.CORRUPT) for job in worker.take(64).jobs])
        before = (operator.progress(), results(connection), [letter.id for letter in operator.dead_letters()])
        try:
            send(connection, name, ["a", "b"], "iq-again", number)
            break
        except redis.ResponseError as error:
            reason = str(error)
        failed += 1
        assert "on purpose" in reason
        check_invariants(connection)
        after = (operator.progress(), results(connection), [letter.id for letter in operator.dead_letters()])
        assert (after, pending(connection), queued(connection)) == (before, set(), []), f"call {number}"
        # The caller sends it again, under the same job id.
        assert send(connection, name, ["a", "b"], "iq-again") == [b"accepted", b"11"]
        drain(worker)
        assert operator.progress().accepted == before[0].accepted + 2
        assert connection.exists(contract.pending_key("default")) == 0
        check_invariants(connection, resubmitted=True)
    assert 10 < failed < CALLS_MAX - 1
