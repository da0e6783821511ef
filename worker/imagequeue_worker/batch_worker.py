"""An RQ worker that takes, runs and finishes jobs in batches.

To RQ and its tools it is a worker like any other (`rq info`, suspend and resume, the shutdown command). Its loop is its
own: `take` leases a batch, whose pictures are fetched and decoded while the net runs on the batch before it; `finish`
publishes. It never waits for a fuller batch unless told to: when idle, one image goes through at once; under load,
batches fill by themselves. See batch_loop.py for the loop, heartbeat.py for the leases.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
import time
from dataclasses import replace
from types import FrameType
from typing import Any

import redis
import structlog
from prometheus_client import REGISTRY
from rq import Queue
from rq.command import parse_payload
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, DequeueStrategy, WorkerStatus

from imagequeue_worker.connections import own_connection
from imagequeue_worker.jobs import Lease
from imagequeue_worker.listener import Listener
from imagequeue_worker.loading import Threads
from imagequeue_worker.machine import Machine, MakePipeline, Plan, StartTracing
from imagequeue_worker.memory import share_one_heap
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.nets import Nets, load_found_nets
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.settings import Settings
from imagequeue_worker.tracing import start_tracing
from imagequeue_worker.vitals import VitalsBoard, VitalsRow

log = structlog.get_logger("imagequeue_worker.batch_worker")

WORKER_TTL_SECONDS = 60  # a killed worker leaves RQ's lists after two minutes, not eight
SECOND_SIGNAL_SECONDS = 1.0  # a pool and a terminal both send one: not yet a second wish
SUBSCRIBE_SECONDS = 5.0  # to wait for, before RQ is told of this worker

__all__ = ["BatchWorker", "Machine", "make_pipeline", "worker_name"]


def worker_name(pid: int | None = None, token: str | None = None) -> str:
    """Host, pid and random bits: containers all have pid 1. By default this process', and new bits."""
    return f"{socket.gethostname()}.{pid or os.getpid()}.{token or secrets.token_hex(4)}"


def make_pipeline(
    nets: Nets,
    settings: Settings,
    worker: str,
    progress: Progress,
    connection: redis.Redis,
    *,
    raise_memory_errors: bool = True,
) -> Pipeline:
    """The pipeline that settings describe; `connection` leads to the Redis that holds uploaded bytes."""
    sources = ImageSources(
        image_roots=settings.image_roots,
        image_bytes_max=settings.max_image_bytes,
        bytes_in_flight_max=settings.max_bytes_in_flight,
        # A fetch has ended by itself before the process counts as stalled.
        fetch_seconds=min(settings.fetch_timeout, settings.stall_timeout / 2),
        redirects_max=settings.max_redirects,
        per_host_max=settings.fetch_per_host,
        allowed_networks=settings.allow_networks,
        redis=lambda: own_connection(connection),
    )
    threads = Threads(
        decoding=settings.decode_threads, fetching=settings.fetch_concurrency, per_host=settings.fetch_per_host
    )
    return Pipeline(
        nets, References(sources), settings.limits, threads=threads, worker=worker, on_advance=progress.advance,
        raise_memory_errors=raise_memory_errors,
    )  # fmt: skip


class BatchWorker(BaseWorker):
    """Settings come from the environment unless a supervisor has set them: `rq worker` makes its workers itself."""

    settings: Settings | None = None
    nets: Nets | None = None
    metrics: Metrics | None = None
    vitals: VitalsRow | None = None
    supervisor: int | None = None  # its pid
    make_pipeline: MakePipeline = staticmethod(make_pipeline)
    start_tracing: StartTracing = staticmethod(start_tracing)

    def __init__(self, queues: Any, name: str | None = None, **options: Any) -> None:  # noqa: ANN401  RQ's signature
        options["serializer"] = JSONSerializer  # never pickle, whatever the command line says
        options["worker_ttl"] = WORKER_TTL_SECONDS
        super().__init__(queues, name or worker_name(), **options)
        self._machine: Machine | None = None
        self._listener: Listener | None = None
        self._first_signal_at: float | None = None

    @property
    def connection_timeout(self) -> int:
        """RQ raises socket timeouts to this, in seconds; no command of ours blocks longer than 4."""
        return 10

    # --- the loop ------------------------------------------------------------------------------------------------

    def work(
        self,
        burst: bool = False,
        logging_level: str | None = None,  # noqa: ARG002  see logs.py
        date_format: str = "",  # noqa: ARG002
        log_format: str = "",  # noqa: ARG002
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,  # noqa: ARG002  most urgent first, always
    ) -> bool:
        """Work until told to stop; whether any job was finished. RQ's signature."""
        if with_scheduler:  # forks: before threads and the net
            self._start_scheduler(burst)
        share_one_heap()
        settings = replace(self.settings or Settings.from_environment(), queues=tuple(self.queue_names()))
        nets = load_found_nets(settings) if self.nets is None else self.nets
        metrics = self.metrics or Metrics(REGISTRY)
        machine = self._machine = self._assemble(settings, nets, metrics)
        self._install_signal_handlers()
        try:
            self._begin(machine)
            with machine.waker.on_signals():
                return bool(machine.loop.run(burst=burst, max_jobs=max_jobs, max_idle_seconds=max_idle_time))
        finally:
            self._end(machine)
            metrics.tally.write()

    def _assemble(self, settings: Settings, nets: Nets, metrics: Metrics) -> Machine:
        for net in nets:
            metrics.model_info.labels(name=net.model.name, sha256=net.model.sha256, engine=net.engine).set(1)
        plan = Plan(
            name=self.name, connection=self.connection, settings=settings, nets=nets, metrics=metrics,
            vitals=self.vitals or VitalsBoard(1).rows[0],  # without a supervisor nobody reads it
            make_pipeline=self.make_pipeline, start_tracing=self.start_tracing, register=self._register,
            queue_dependents=self._queue_dependents, worker_ttl=WORKER_TTL_SECONDS,
        )  # fmt: skip
        return plan.build()

    def _register(self) -> None:
        """Make RQ and its tools know this worker; again after its hash was lost."""
        try:
            self.register_birth()
            self.set_state(WorkerStatus.IDLE)
        except redis.RedisError:
            self.connection.connection_pool.disconnect()  # to connect to wherever the address leads by then
            raise

    def subscribe(self) -> None:
        """Hear commands; in place of RQ's listener, which ends with the first error that it does not know."""
        machine = self._machine
        if machine is None or self._listener is not None:
            return
        self._listener = Listener(
            own_connection(self.connection), self.pubsub_channel_name, self.handle_payload, machine.outage
        )
        self._listener.start()

    def unsubscribe(self) -> None:
        """Hear no more."""
        if self._listener is not None:
            self._listener.stop()

    def _begin(self, machine: Machine) -> None:
        self.subscribe()  # first: who finds the worker may command it
        if self._listener is not None:
            self._listener.wait_until_subscribed(SUBSCRIBE_SECONDS)
        machine.patience.call(self._register)
        if self.supervisor:
            machine.heartbeat.end_with(self.supervisor)
        machine.heartbeat.start()
        machine.work_signal.start()
        gc.freeze()  # what is here stays: no collection need look at it again
        log.info("ready", worker=self.name, queues=self.queue_names())

    def _end(self, machine: Machine) -> None:
        machine.close()
        try:
            self.teardown()
        except Exception as error:
            # Its keys expire by themselves.
            log.warning("could not take leave of Redis", error=str(error))
        log.info("stopped", worker=self.name)

    def _queue_dependents(self, lease: Lease, failed: bool) -> None:
        """RQ's own way for the rare job that others wait for; if it fails, the job ends without it."""
        try:
            self._enqueue_dependents(lease, failed)
        except Exception:
            log.exception("dependents could not be queued", queue=lease.queue, job=lease.job)

    def _enqueue_dependents(self, lease: Lease, failed: bool) -> None:
        job = Job.fetch(lease.job, connection=self.connection, serializer=JSONSerializer)
        # What it will be when finish has closed it: RQ keeps the dependents of failed jobs back.
        job._status = JobStatus.FAILED if failed else JobStatus.FINISHED
        Queue(lease.queue, connection=self.connection, serializer=JSONSerializer).enqueue_dependents(
            job, refresh_job_status=False
        )

    # --- signals and commands: set flags, nothing else ------------------------------------------------------------

    def request_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """First signal: finish what is in flight, put the rest back. A second one: put everything back and leave."""
        now = time.monotonic()
        first = self._first_signal_at
        if first is None:
            self._first_signal_at = now
        elif now - first < SECOND_SIGNAL_SECONDS:
            return
        self._stop_requested = True
        if self._machine:
            self._machine.loop.stop()
            self._machine.heartbeat.drain_within(self._machine.grace_seconds if first is None else 0.0)

    def _install_signal_handlers(self) -> None:
        signal.signal(signal.SIGINT, self.request_stop)
        signal.signal(signal.SIGTERM, self.request_stop)

    def handle_payload(self, message: dict[str, Any]) -> None:
        """Commands that RQ's tools publish; whatever arrives, the thread that hears them lives on."""
        try:
            payload = parse_payload(message)
            command = payload.get("command")
        except Exception:
            log.warning("a command is not JSON; ignored")
            return
        if command == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)
        elif command == "stop-job" and self._machine:
            self._machine.stopping.stop(job=str(payload.get("job_id", "")))
        elif command == "stop-execution" and self._machine:
            self._machine.stopping.stop(execution=str(payload.get("execution_id", "")))
        else:
            log.warning("a command has no meaning for a batch; ignored", command=str(command)[:40])

    def clean_registries(self) -> None:
        """Left to reclaim: RQ's clean-up takes no lock and would fail jobs that can be run again."""
