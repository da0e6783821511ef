"""Whatever workers, producers and operators do in whatever order: the law holds, and nothing is lost."""

from __future__ import annotations

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from imagequeue import Image, Producer, contract
from imagequeue.contract import QUEUES, ErrorCode, Priority
from imagequeue.errors import ContractError
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.protocol import Finished, Protocol
from queue_state import (
    LEASE_SECONDS,
    RESULT_TTL,
    RQ,
    answer,
    answer_errors,
    answer_failed,
    check_invariants,
    end_leases,
    pending,
    queued,
    results,
    rows,
)

COLLECTIONS = ("one", "two")
IDS = "abcdefgh"
NEVER = 10**6

workers = st.sampled_from(["w1", "w2"])
ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=6)
garbage = st.sampled_from([b"", b"{}", b"[", b'["os.system", null, [], {}]', b"\xff", b"x\x9c"])


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

    # --- producers ---

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

    # --- workers ---

    @rule(name=workers, images=st.integers(1, 6))
    def take(self, name: str, images: int) -> None:
        self.held[name] += self.protocols[name].take(images).jobs

    @rule(name=workers, images=st.integers(1, 6))
    def take_and_never_hear_of_it(self, name: str, images: int) -> None:
        protocol = self.protocols[name]
        known = {job.lease for job in self.held[name]}
        protocol.take(images)
        protocol.put_back([lease for lease in protocol.held_in_redis() if lease not in known])

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), code=st.sampled_from([None, ErrorCode.CORRUPT, ErrorCode.CANCELLED]))
    def finish(self, data: st.DataObject, code: ErrorCode | None) -> None:
        name, jobs = self._some_held(data)
        finished = [self._answer(job, code) for job in jobs]
        self.protocols[name].finish(finished)
        self.sent += [(name, job) for job in finished]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def finish_again(self, data: st.DataObject) -> None:
        name, job = data.draw(st.sampled_from(self.sent))
        (reply,) = self.protocols[name].finish([job])
        assert reply.code in (Finished.LOST, Finished.DONE_BEFORE)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        name, jobs = self._some_held(data)
        self.protocols[name].put_back([job.lease for job in jobs])

    @rule(name=workers)
    def beat(self, name: str) -> None:
        leases = [job.lease for job in self.held[name]]
        _, lost = self.protocols[name].heartbeat(leases, worker_ttl=60, rate=1.0)
        self.held[name] = [job for job in self.held[name] if job.lease not in lost]

    @rule(data=st.data(), name=workers, losses_max=st.sampled_from([1, 2, NEVER]))
    def a_worker_is_slow_and_loses_leases(self, data: st.DataObject, name: str, losses_max: int) -> None:
        """It does not know: it may still finish or put back what it believes to hold."""
        jobs = self.held[name]
        end_leases(self.connection, *(job.lease for job in jobs if data.draw(st.booleans())))
        self.protocols["w1"].reclaim(losses_max=losses_max)

    @rule(name=workers)
    def a_worker_dies(self, name: str) -> None:
        self.held[name] = []
        survivor = self.protocols["w2" if name == "w1" else "w1"]
        survivor.reclaim(losses_max=NEVER, dead_worker=name)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def a_stock_worker_settles_a_part(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, jobs in self.held.items() if jobs]))
        job = data.draw(st.sampled_from(self.held[name]))
        try:
            cells = rows(job)
        except ContractError:
            return
        part = data.draw(st.integers(0, len(job.ids)))
        self.protocols[name].settle(job.lease.queue, job.lease.job, job.collection, cells[: 4 * part])

    # --- operators, time, and damage ---

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        if not self.connection.sadd(contract.PAUSED_KEY, queue):
            self.connection.srem(contract.PAUSED_KEY, queue)

    @rule(data=st.data())
    def the_time_of_a_job_is_up(self, data: st.DataObject) -> None:
        if job := self._some_queued(data):
            self.connection.hset(contract.job_key(job), "expires_at", "1.0")

    @rule(data=st.data(), text=garbage)
    def the_data_of_a_job_is_damaged(self, data: st.DataObject, text: bytes) -> None:
        if job := self._some_queued(data):
            self.connection.hset(contract.job_key(job), "data", text)

    @rule(data=st.data())
    def an_id_is_doubled(self, data: st.DataObject) -> None:
        if job := self._some_queued(data):
            self.connection.lpush(contract.queue_key(data.draw(st.sampled_from(self._queues_of(job)))), job)

    @rule(queue=st.sampled_from(QUEUES))
    def a_stale_id_appears(self, queue: str) -> None:
        self.connection.lpush(contract.queue_key(queue), "stale")

    @rule(data=st.data())
    def a_job_is_scheduled(self, data: st.DataObject) -> None:
        if job := self._some_queued(data):
            (queue, *_) = self._queues_of(job)
            self.connection.lrem(contract.queue_key(queue), 0, job)
            self.connection.hset(contract.job_key(job), "status", "scheduled")
            self.connection.zadd(f"{RQ}:scheduled:{queue}", {job: 1.0})

    # --- what must hold ---

    @invariant()
    def the_law_holds(self) -> None:
        check_invariants(self.connection)
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
        check_invariants(self.connection)
        for collection, accepted in self.accepted.items():
            assert results(self.connection, collection).keys() == accepted
        assert [key for key in self.connection.scan_iter(f"{RQ}:*") if b":wip:" in key or b"exec" in key] == []
        self.producer.close()

    # --- helpers ---

    def _some_held(self, data: st.DataObject) -> tuple[str, list[TakenJob]]:
        """Some jobs that a worker believes to hold; it believes so no longer."""
        name = data.draw(st.sampled_from([name for name, jobs in self.held.items() if jobs]))
        count = data.draw(st.integers(1, len(self.held[name])))
        jobs, self.held[name] = self.held[name][:count], self.held[name][count:]
        return name, jobs

    def _some_queued(self, data: st.DataObject) -> str | None:
        jobs = sorted({job for queue in QUEUES for job in queued(self.connection, queue)})
        jobs = [job for job in jobs if self.connection.hget(contract.job_key(job), "status") == b"queued"]
        return data.draw(st.sampled_from(jobs)) if jobs else None

    def _queues_of(self, job: str) -> list[str]:
        return [queue for queue in QUEUES if job in queued(self.connection, queue)]

    @staticmethod
    def _answer(job: TakenJob, code: ErrorCode | None) -> FinishedJob:
        try:
            job.request()
        except ContractError as error:
            return answer_failed(job, f"{error.code}: {error}")
        return answer_errors(job, code) if code else answer(job)


def test_whatever_happens_every_image_gets_one_result(connection: redis.Redis, redis_url: str) -> None:
    bound = type("BoundMachine", (QueueMachine,), {"url": redis_url, "connection": connection})
    run_state_machine_as_test(
        bound,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
