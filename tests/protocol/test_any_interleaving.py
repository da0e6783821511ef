"""Whatever workers, producers and operators do in whatever order: the law holds, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from imagequeue import Image, Producer, contract
from imagequeue.contract import QUEUES, ErrorCode, Priority
from imagequeue.errors import CollectionBusy, ContractError
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.protocol import Finished, Protocol
from machines import run_machine
from queue_state import (
    LEASE_SECONDS,
    RESULT_TTL,
    RQ,
    answer,
    answer_errors,
    answer_failed,
    check_invariants,
    end_leases,
    field,
    pending,
    queued,
    results,
    rows,
)

COLLECTIONS = ("one", "two")
IDS = "abcdefgh"
NEVER = 10**6

workers = st.sampled_from(["w1", "w2"])
few = st.integers(1, 4)
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=6)
garbage = st.sampled_from([b"", b"{}", b"[", b'["os.system", null, [], {}]', b"\xff", b"x\x9c"])


# Job ids are random, so what is drawn must not depend on the queue's state: a failing case could not be run again.


class QueueMachine(RuleBasedStateMachine):
    """The model: who was accepted, which results were seen, and what each worker believes to hold."""

    url: str
    connection: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.connection.flushdb()
        self.producer = Producer(self.url)
        self.protocols = {
            name: Protocol(self.connection, name, QUEUES, lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
            for name in ("w1", "w2")
        }
        self.held: dict[str, list[TakenJob]] = {"w1": [], "w2": []}
        self.sent: list[tuple[str, FinishedJob]] = []
        self.accepted: dict[str, set[str]] = {name: set() for name in COLLECTIONS}
        self.seen: dict[str, dict[str, contract.Result]] = {name: {} for name in COLLECTIONS}

    # --- producers ------------------------------------------------------------------------------------------

    @rule(
        ids=ids,
        collection=st.sampled_from(COLLECTIONS),
        priority=st.sampled_from(list(Priority)),
        chunk=st.integers(1, 4),
    )
    def submit(self, ids: list[str], collection: str, priority: Priority, chunk: int) -> None:
        images = [Image(id_, f"/{id_}.jpg") for id_ in ids]
        self.producer.submit_many(images, collection=collection, priority=priority, chunk=chunk)
        self.accepted[collection].update(ids)

    @rule(ids=ids, collection=st.sampled_from(COLLECTIONS), chunk=st.integers(1, 4))
    def resubmit(self, ids: list[str], collection: str, chunk: int) -> None:
        images = [Image(id_, f"/{id_}.jpg") for id_ in ids]
        self.producer.submit_many(images, collection=collection, chunk=chunk, resubmit=True)
        self.accepted[collection].update(ids)
        self._runs_afresh(collection, ids)

    # --- operators ------------------------------------------------------------------------------------------

    @rule(ids=ids, collection=st.sampled_from(COLLECTIONS))
    def cancel(self, ids: list[str], collection: str) -> None:
        waited = pending(self.connection, collection) & set(ids)
        assert self.producer.cancel(ids, collection=collection) == len(waited)
        assert not pending(self.connection, collection) & set(ids)

    @rule(collection=st.sampled_from(COLLECTIONS), queue=st.sampled_from(QUEUES), pick=few)
    def cancel_a_job(self, collection: str, queue: str, pick: int) -> None:
        for job in self._queued(queue, pick):
            self.producer.cancel_job(job)
            owners = self.connection.hvals(contract.pending_key(collection))
            assert f"{queue}|{job}".encode() not in owners

    @rule(collection=st.sampled_from(COLLECTIONS))
    def cancel_a_collection(self, collection: str) -> None:
        self.producer.cancel_collection(collection)
        assert pending(self.connection, collection) == set()

    @rule(
        ids=st.none() | ids,
        collection=st.sampled_from(COLLECTIONS),
        code=st.sampled_from([None, ErrorCode.CORRUPT, ErrorCode.WORKER_LOST]),
        priority=st.sampled_from(list(Priority)),
    )
    def requeue(self, ids: list[str] | None, collection: str, code: ErrorCode | None, priority: Priority) -> None:
        letters = {letter.id for letter in self.producer.dead_letters(ids, collection=collection, code=code)}
        done = self.producer.requeue(ids, collection=collection, code=code, priority=priority)
        assert done.accepted + done.left == len(letters)
        self._runs_afresh(collection, letters)

    @rule(ids=st.none() | ids, collection=st.sampled_from(COLLECTIONS))
    def discard(self, ids: list[str] | None, collection: str) -> None:
        self.producer.discard(ids, collection=collection)
        assert list(self.producer.dead_letters(ids, collection=collection)) == []

    @rule(collection=st.sampled_from(COLLECTIONS))
    def drop(self, collection: str) -> None:
        try:
            self.producer.drop(collection)
        except CollectionBusy:
            assert pending(self.connection, collection)
        else:
            self.accepted[collection], self.seen[collection] = set(), {}

    # --- workers --------------------------------------------------------------------------------------------

    @rule(name=workers, images=st.integers(1, 6))
    def take(self, name: str, images: int) -> None:
        self.held[name] += self.protocols[name].take(images).jobs

    @rule(name=workers, images=st.integers(1, 6))
    def take_and_never_hear_of_it(self, name: str, images: int) -> None:
        protocol = self.protocols[name]
        known = {job.lease for job in self.held[name]}
        protocol.take(images)
        protocol.put_back([lease for lease in protocol.held_in_redis() if lease not in known])

    @rule(name=workers, count=few, code=st.sampled_from([None, ErrorCode.CORRUPT, ErrorCode.CANCELLED]))
    def finish(self, name: str, count: int, code: ErrorCode | None) -> None:
        finished = [self._answer(job, code) for job in self._let_go(name, count)]
        self.protocols[name].finish(finished)
        self.sent += [(name, job) for job in finished]

    @rule(pick=few)
    def finish_again(self, pick: int) -> None:
        for name, job in self.sent[-pick : -pick + 1 or None]:
            (reply,) = self.protocols[name].finish([job])
            assert reply.code in (Finished.LOST, Finished.DONE_BEFORE)

    @rule(name=workers, count=few)
    def put_back(self, name: str, count: int) -> None:
        self.protocols[name].put_back([job.lease for job in self._let_go(name, count)])

    @rule(name=workers)
    def beat(self, name: str) -> None:
        leases = [job.lease for job in self.held[name]]
        _, lost = self.protocols[name].heartbeat(leases, worker_ttl=60, rate=1.0)
        self.held[name] = [job for job in self.held[name] if job.lease not in lost]

    @rule(name=workers, count=few, losses_max=st.sampled_from([1, 2, NEVER]))
    def a_worker_is_slow_and_loses_leases(self, name: str, count: int, losses_max: int) -> None:
        """It does not know: it may still finish or put back what it believes to hold."""
        end_leases(self.connection, *(job.lease for job in self.held[name][:count]))
        self.protocols["w1"].reclaim(losses_max=losses_max)

    @rule(name=workers)
    def a_worker_dies(self, name: str) -> None:
        self.held[name] = []
        survivor = self.protocols["w2" if name == "w1" else "w1"]
        survivor.reclaim(losses_max=NEVER, dead_worker=name)

    @rule(name=workers, pick=few, part=st.integers(1, 4))
    def a_stock_worker_settles_a_part(self, name: str, pick: int, part: int) -> None:
        for job in self.held[name][pick - 1 : pick]:
            with suppress(ContractError):  # its data is damaged
                cells = rows(job)[: 4 * part]
                self.protocols[name].settle(job.lease.queue, job.lease.job, job.collection, cells)

    # --- pauses, time, and damage ------------------------------------------------------------------------

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        if not self.producer.pause(queue):
            assert self.producer.resume(queue)

    @rule(queue=st.sampled_from(QUEUES), pick=few)
    def the_time_of_a_job_is_up(self, queue: str, pick: int) -> None:
        for job in self._queued(queue, pick):
            self.connection.hset(contract.job_key(job), "expires_at", "1.0")

    @rule(queue=st.sampled_from(QUEUES), pick=few, text=garbage)
    def the_data_of_a_job_is_damaged(self, queue: str, pick: int, text: bytes) -> None:
        for job in self._queued(queue, pick):
            self.connection.hset(contract.job_key(job), "data", text)

    @rule(queue=st.sampled_from(QUEUES), pick=few)
    def an_id_is_doubled(self, queue: str, pick: int) -> None:
        for job in self._queued(queue, pick):
            self.connection.lpush(contract.queue_key(queue), job)

    @rule(queue=st.sampled_from(QUEUES))
    def a_stale_id_appears(self, queue: str) -> None:
        self.connection.lpush(contract.queue_key(queue), "stale")

    @rule(queue=st.sampled_from(QUEUES), pick=few)
    def a_job_is_scheduled(self, queue: str, pick: int) -> None:
        for job in self._queued(queue, pick):
            self.connection.lrem(contract.queue_key(queue), 0, job)
            self.connection.hset(contract.job_key(job), "status", "scheduled")
            self.connection.zadd(f"{RQ}:scheduled:{queue}", {job: 1.0})

    # --- what must hold -------------------------------------------------------------------------------------

    @invariant()
    def the_law_holds(self) -> None:
        check_invariants(self.connection, resubmitted=True)
        for collection, accepted in self.accepted.items():
            now, before = results(self.connection, collection), self.seen[collection]
            assert {id_: now.get(id_) for id_ in before} == before, "a result has changed"
            assert pending(self.connection, collection) | now.keys() == accepted
            self.seen[collection] = now

    def teardown(self) -> None:
        if not hasattr(self, "producer"):
            return
        self.connection.delete(contract.PAUSED_KEY)
        for queue in QUEUES:
            for member in self.connection.zrange(f"{RQ}:wip:{queue}", 0, -1):
                self.connection.zadd(f"{RQ}:wip:{queue}", {member: 1.0})
        protocol = self.protocols["w1"]
        while protocol.reclaim(losses_max=NEVER):
            pass
        while jobs := protocol.take(64).jobs:
            protocol.finish([self._answer(job, None) for job in jobs])
        check_invariants(self.connection, resubmitted=True)
        for collection, accepted in self.accepted.items():
            assert results(self.connection, collection).keys() == accepted
        assert [key for key in self.connection.scan_iter(f"{RQ}:*") if b":wip:" in key or b"exec" in key] == []
        self.producer.close()

    # --- helpers --------------------------------------------------------------------------------------------

    def _runs_afresh(self, collection: str, ids: Iterable[str]) -> None:
        """The results of these images may go, and others may come."""
        for id_ in ids:
            self.seen[collection].pop(id_, None)

    def _let_go(self, name: str, count: int) -> list[TakenJob]:
        """Some jobs that a worker believes to hold; it believes so no longer."""
        jobs, self.held[name] = self.held[name][:count], self.held[name][count:]
        return jobs

    def _queued(self, queue: str, pick: int) -> list[str]:
        """The n-th job of a queue, if there are so many and it waits there."""
        jobs = queued(self.connection, queue)[pick - 1 : pick]
        return [job for job in jobs if field(self.connection, job, "status") == "queued"]

    @staticmethod
    def _answer(job: TakenJob, code: ErrorCode | None) -> FinishedJob:
        try:
            job.request()
        except ContractError as error:
            return answer_failed(job, f"{error.code}: {error}")
        return answer_errors(job, code) if code else answer(job)


@pytest.mark.timeout(600)  # a failing case is made small first
def test_whatever_happens_every_run_of_an_image_gets_one_result(connection: redis.Redis, redis_url: str) -> None:
    run_machine(QueueMachine, connection, redis_url, max_examples=120)
