"""An RQ worker that takes, runs and finishes jobs in batches.

To RQ and its tools it is a worker like any other (`rq info`, suspend and resume, the shutdown command). Its loop is its
own: `take` leases a batch, whose pictures are fetched and decoded while the net runs on the batch before it; `finish`
publishes. It never waits for a fuller batch unless told to: when idle, one image goes through at once; under load,
batches fill by themselves. See batch_loop.py for the loop, heartbeat.py for the leases.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import structlog
from prometheus_client import REGISTRY
from rq import Queue
from rq.command import parse_payload
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, DequeueStrategy, WorkerStatus

from imagequeue_worker.batch_loop import BatchLoop
from imagequeue_worker.connections import own_connection
from imagequeue_worker.finisher import Finisher
from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.jobs import Lease
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.nets import Nets, load_found_nets
from imagequeue_worker.patience import Patience
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.progress import Progress
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import Waker, WorkSignal

log = structlog.get_logger("imagequeue_worker.batch_worker")

WORKER_TTL_SECONDS = 60  # a killed worker leaves RQ's lists after two minutes, not eight
SECOND_SIGNAL_SECONDS = 1.0  # a pool and a terminal both send one: not yet a second wish

MakePipeline = Callable[[Nets, Settings, str, Progress], Pipeline]


def worker_name(pid: int | None = None, token: str | None = None) -> str:
    """Host, pid and random bits: containers all have pid 1. By default this process', and new bits."""
    return f"{socket.gethostname()}.{pid or os.getpid()}.{token or secrets.token_hex(4)}"


def make_pipeline(nets: Nets, settings: Settings, worker: str, progress: Progress) -> Pipeline:
    """The pipeline that settings describe."""
    references = References(ImageSources(image_roots=settings.image_roots, image_bytes_max=settings.max_image_bytes))
    return Pipeline(
        nets, references, settings.limits, threads=settings.decode_threads, worker=worker, on_advance=progress.advance
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """The parts of a running worker."""

    loop: BatchLoop
    pipeline: Pipeline
    finisher: Finisher
    heartbeat: Heartbeat
    work_signal: WorkSignal
    grace_seconds: float


class BatchWorker(BaseWorker):
    """Settings come from the environment unless a supervisor has set them: `rq worker` makes its workers itself."""

    settings: Settings | None = None
    nets: Nets | None = None
    metrics: Metrics | None = None
    make_pipeline: MakePipeline = staticmethod(make_pipeline)

    def __init__(self, queues: Any, name: str | None = None, **options: Any) -> None:  # noqa: ANN401  RQ's signature
        options["serializer"] = JSONSerializer  # never pickle, whatever the command line says
        options["worker_ttl"] = WORKER_TTL_SECONDS
        super().__init__(queues, name or worker_name(), **options)
        self._machine: Machine | None = None
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
        settings = replace(self.settings or Settings.from_environment(), queues=tuple(self.queue_names()))
        nets = load_found_nets(settings) if self.nets is None else self.nets
        metrics = self.metrics or Metrics(REGISTRY)
        machine = self._machine = self._assemble(settings, nets, metrics)
        self._install_signal_handlers()
        try:
            self._begin(machine)
            return bool(machine.loop.run(burst=burst, max_jobs=max_jobs, max_idle_seconds=max_idle_time))
        finally:
            self._end(machine)

    def _assemble(self, settings: Settings, nets: Nets, metrics: Metrics) -> Machine:
        def protocol() -> Protocol:
            """One for each thread."""
            return Protocol(
                own_connection(self.connection), self.name, settings.queues,
                lease_seconds=settings.lease_seconds, result_ttl=settings.result_ttl,
            )  # fmt: skip

        for net in nets:
            metrics.model_info.labels(name=net.model.name, sha256=net.model.sha256, engine=net.engine).set(1)
        progress, waker, publishing = Progress(), Waker(), protocol()
        pipeline = self.make_pipeline(nets, settings, self.name, progress)
        heartbeat = Heartbeat(protocol(), settings, progress, metrics, self._register, WORKER_TTL_SECONDS)
        patience = Patience(publishing, progress, metrics)
        finisher = Finisher(publishing, patience, heartbeat, metrics, self._queue_dependents)
        work_signal = WorkSignal(waker, {queue: own_connection(self.connection) for queue in settings.queues})
        loop = BatchLoop(protocol(), pipeline, finisher, heartbeat, work_signal, waker, progress, metrics, settings)
        return Machine(loop, pipeline, finisher, heartbeat, work_signal, settings.grace)

    def _register(self) -> None:
        """Make RQ and its tools know this worker; again after its hash was lost."""
        self.register_birth()
        self.set_state(WorkerStatus.IDLE)

    def _begin(self, machine: Machine) -> None:
        self.subscribe()  # first: who finds the worker may command it
        self._register()
        machine.heartbeat.start()
        machine.work_signal.start()
        log.info("ready", worker=self.name, queues=self.queue_names())

    def _end(self, machine: Machine) -> None:
        machine.pipeline.close()
        machine.finisher.close()
        machine.heartbeat.stop()
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
            command = parse_payload(message).get("command")
        except Exception:
            log.warning("a command is not JSON; ignored")
            return
        if command == "shutdown":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            log.warning("a command has no meaning for a batch; ignored", command=str(command)[:40])

    def clean_registries(self) -> None:
        """Left to reclaim: RQ's clean-up takes no lock and would fail jobs that can be run again."""
