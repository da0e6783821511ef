"""For every script: a state in which it has much to do, and the call. The fault points are its `redis.call`s there."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis

from chaos.audit import COLLECTION
from chaos.bench import Bench, answer
from imagequeue import Image
from imagequeue.contract import ErrorCode, pending_key
from imagequeue_worker.backlog import read_backlog
from imagequeue_worker.jobs import image_row
from imagequeue_worker.protocol import Retry

Act = Callable[[], object]
Scenario = Callable[[Bench], Act]

SCENARIOS: list[tuple[str, Scenario]] = []  # script, scenario


def scenario(script: str) -> Callable[[Scenario], Scenario]:
    """Enter it as one of the script's."""

    def enter(prepare: Scenario) -> Scenario:
        SCENARIOS.append((script, prepare))
        return prepare

    return enter


@scenario("submit")
def submit(bench: Bench) -> Act:
    bench.submit("a", "b")
    return lambda: bench.submit("b", "c", "d")


@scenario("take")
def take(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("late", expires_in=0.001)
    time.sleep(0.01)  # its time is up
    bench.expect_error(ErrorCode.EXPIRED, "late")
    bench.submit("c", bad=["c"])
    return bench.finish_all  # what a worker makes of it belongs to the call


@scenario("heartbeat")
def heartbeat(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("c")
    leases = [job.lease for job in bench.take()]
    return lambda: bench.worker.heartbeat(leases, worker_ttl=60, rate=5.0)


@scenario("finish")
def finish(bench: Bench) -> Act:
    bench.submit("a", "b", bad=["b"])
    bench.submit("c")
    jobs = bench.take()
    return lambda: bench.worker.finish([answer(job) for job in jobs])


@scenario("publish")
def publish(bench: Bench) -> Act:
    bench.submit("a", "b", "c", bad=["b"])
    (job,) = bench.take()
    finished = answer(job)
    rows = [cell for outcome in finished.outcomes[:2] for cell in image_row(outcome, finished.request)]
    return lambda: bench.worker.publish(job.lease, COLLECTION, rows)


@scenario("retry")
def retry(bench: Bench) -> Act:
    bench.submit("a", "b")
    (job,) = bench.take()
    tries = [Retry("a", f"iq-{'0' * 32}", 0.001, job.data, b'{"code":"fetch_failed","message":""}')]
    return lambda: bench.worker.retry(job.lease, COLLECTION, tries, retries_max=3, pause_max_seconds=1.0)


@scenario("put_back")
def put_back(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("c")
    leases = [job.lease for job in bench.take()]
    return lambda: bench.worker.put_back(leases)


@scenario("reclaim")
def reclaim(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("c")
    bench.take()
    bench.end_leases()
    return lambda: bench.worker.reclaim(losses_max=10)


@scenario("reclaim")
def reclaim_for_the_last_time(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.take()
    bench.end_leases()
    bench.expect_error(ErrorCode.WORKER_LOST, "a", "b")
    return lambda: bench.worker.reclaim(losses_max=1)


@scenario("reclaim")
def reclaim_of_a_dead_child(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.take()
    return lambda: bench.worker.reclaim(losses_max=10, dead_worker="w1")


@scenario("reconcile")
def reconcile(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("gone")
    bench.expect_error(ErrorCode.CANCELLED, "gone")
    (queue, job) = bench.connection.hget(pending_key(COLLECTION), "gone").decode().split("|")
    bench.connection.delete(f"rq:job:{job}", f"rq:queue:{queue}")
    return lambda: bench.worker.reconcile(COLLECTION, ["a", "b", "gone"])


@scenario("recount")
def recount(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.connection.hset("imagequeue:waiting", "classify", 7)
    return bench.worker.recount


@scenario("stop")
def stop(bench: Bench) -> Act:
    bench.submit("a", "b")
    (job,) = bench.take()
    bench.expect_error(ErrorCode.CANCELLED, "a", "b")
    return lambda: bench.worker.stop(job.lease)


@scenario("settle")
def settle(bench: Bench) -> Act:
    bench.submit("a", "b", bad=["b"])
    (job,) = bench.take()
    finished = answer(job)
    rows = [cell for outcome in finished.outcomes for cell in image_row(outcome, finished.request)]
    return lambda: bench.worker.settle(job.lease.queue, job.lease.job, COLLECTION, rows)


@scenario("sweep")
def sweep(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.finish_all()
    bench.submit("c")
    return bench.worker.sweep


@scenario("backlog")
def backlog(bench: Bench) -> Act:
    bench.submit("a", "b")
    client: redis.Redis = bench.worker._connection
    return lambda: read_backlog(client, ["classify"])


# --- what producers and operators ask for -------------------------------------------------------------------------


@scenario("resubmit")
def resubmit(bench: Bench) -> Act:
    bench.submit("a", "b", bad=["b"])
    bench.finish_all()
    bench.forget_completions()
    images = [Image(id_, bench.noted[id_]) for id_ in ("a", "b")]
    return lambda: bench.producer.submit_many(images, chunk=2, collection=COLLECTION, resubmit=True)


@scenario("requeue")
def requeue(bench: Bench) -> Act:
    bench.submit("a", "b", bad=["a", "b"])
    bench.finish_all()
    bench.forget_completions()
    return lambda: bench.producer.requeue(["a", "b"], collection=COLLECTION)


@scenario("discard")
def discard(bench: Bench) -> Act:
    bench.submit("a", "b", bad=["a", "b"])
    bench.finish_all()
    return lambda: bench.producer.discard(["a", "b"], collection=COLLECTION)


@scenario("cancel")
def cancel(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.submit("c")
    bench.take()
    bench.expect_error(ErrorCode.CANCELLED, "a", "b", "c")
    return lambda: bench.producer.cancel(["a", "b", "c"], collection=COLLECTION)


@scenario("drop")
def drop(bench: Bench) -> Act:
    bench.submit("gone")
    bench.finish_all()
    bench.noted.clear()

    def drop_and_begin_anew() -> None:
        bench.producer.drop(COLLECTION)
        bench.submit("a")

    return drop_and_begin_anew


@scenario("forget")
def forget(bench: Bench) -> Act:
    bench.submit("a", "b")
    bench.finish_all()
    read = list(bench.producer.results(collection=COLLECTION))
    bench.noted.clear()

    def forget_and_go_on() -> None:
        bench.producer.forget(read, max(result.entry for result in read), collection=COLLECTION)
        bench.submit("c")

    return forget_and_go_on
