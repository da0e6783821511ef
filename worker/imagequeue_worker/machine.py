"""The parts of a running worker, put together: who shares what with whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import redis

from imagequeue_worker.batch_loop import BatchLoop
from imagequeue_worker.connections import own_connection
from imagequeue_worker.finisher import Finisher, QueueDependents
from imagequeue_worker.heartbeat import Heartbeat, Register
from imagequeue_worker.isolation import Isolation
from imagequeue_worker.jobs import FinishedJob, TakenJob
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.nets import Nets
from imagequeue_worker.outage import Outage
from imagequeue_worker.patience import Patience
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.retries import Retries
from imagequeue_worker.settings import Settings
from imagequeue_worker.stopping import Stopping
from imagequeue_worker.taker import Taker
from imagequeue_worker.tracing import Tracing
from imagequeue_worker.vitals import VitalsRow
from imagequeue_worker.waiting import Waker, WorkSignal

StartTracing = Callable[[str], Tracing]
"""Gets the worker's name."""
MakePipeline = Callable[[Nets, Settings, str, Progress, redis.Redis], Pipeline]


@dataclass(frozen=True, slots=True)
class Machine:
    """The parts of a running worker."""

    loop: BatchLoop
    pipeline: Pipeline
    isolation: Isolation
    finisher: Finisher
    heartbeat: Heartbeat
    stopping: Stopping
    work_signal: WorkSignal
    waker: Waker
    tracing: Tracing | None
    outage: Outage
    patience: Patience  # the main thread's
    grace_seconds: float

    def close(self) -> None:
        """Let its threads and processes end."""
        self.isolation.close()
        self.pipeline.close()
        self.finisher.close()
        self.heartbeat.stop()
        if self.tracing:
            self.tracing.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a worker is made of."""

    name: str
    connection: redis.Redis
    settings: Settings
    nets: Nets
    metrics: Metrics
    vitals: VitalsRow
    make_pipeline: MakePipeline
    start_tracing: StartTracing
    register: Register
    queue_dependents: QueueDependents
    worker_ttl: int

    def protocol(self) -> Protocol:
        """One for each thread."""
        return Protocol(
            own_connection(self.connection), self.name, self.settings.queues,
            lease_seconds=self.settings.lease_seconds, result_ttl=self.settings.result_ttl,
        )  # fmt: skip

    def classify_alone(self, taken: TakenJob) -> FinishedJob:
        """What a process does for one image that is isolated; its threads are made in it."""
        pipeline = self.make_pipeline(self.nets, self.settings, self.name, Progress(), self.connection)
        (finished,) = pipeline.classify(pipeline.prepare([taken]))
        return finished

    def build(self) -> Machine:
        """All parts, none of them started; no thread may run yet in this process."""
        settings, metrics = self.settings, self.metrics
        isolation = Isolation(
            self.classify_alone,
            seconds=settings.isolation_seconds, memory_bytes=settings.isolation_memory, worker=self.name,
        )  # fmt: skip
        progress, waker, outage = Progress(), Waker(), Outage(metrics)
        pipeline = self.make_pipeline(self.nets, settings, self.name, progress, self.connection)
        heartbeat = Heartbeat(
            self.protocol(), settings, progress, metrics, outage, self.vitals, self.register, self.worker_ttl
        )
        taking, publishing = self.protocol(), self.protocol()
        patience, publishing_patience = (Patience(one, progress, outage) for one in (taking, publishing))
        retries = Retries(publishing, publishing_patience, waker, metrics, settings)
        tracing = self.start_tracing(self.name) if settings.tracing else None
        finisher = Finisher(
            publishing, publishing_patience, heartbeat, metrics, retries, self.queue_dependents, tracing
        )
        watched = {queue: own_connection(self.connection) for queue in settings.queues}
        work_signal = WorkSignal(waker, watched)
        taker = Taker(taking, patience, finisher, heartbeat, work_signal, progress, metrics, settings)
        loop = BatchLoop(
            taker, taking, patience, pipeline, isolation, finisher, heartbeat, waker, progress, metrics, settings
        )
        stopping = Stopping(self.protocol(), heartbeat)
        return Machine(
            loop,
            pipeline,
            isolation,
            finisher,
            heartbeat,
            stopping,
            work_signal,
            waker,
            tracing,
            outage,
            patience,
            settings.grace,
        )
