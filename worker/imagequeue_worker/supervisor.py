"""One worker process per core: the net is loaded once before the fork, dead children are replaced, one /metrics.

The supervisor holds no threads and no lasting connection, so that it can fork at any time; /metrics is served by a
child of its own. Children end with it, also when it is killed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import redis
import structlog
from prometheus_client import CollectorRegistry

from imagequeue.connection import backoff, connect
from imagequeue_worker.batch_worker import BatchWorker, worker_name
from imagequeue_worker.cores import usable_cores
from imagequeue_worker.errors import SettingsError
from imagequeue_worker.logs import name_process
from imagequeue_worker.metrics import Metrics, SupervisorMetrics
from imagequeue_worker.metrics_server import run_metrics_server, use_metrics_slot
from imagequeue_worker.nets import Nets
from imagequeue_worker.outage import BACKOFF_LAST_SECONDS, passes
from imagequeue_worker.parent import die_with_parent
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from imagequeue_worker.vitals import VitalsBoard
from imagequeue_worker.waiting import Waker

log = structlog.get_logger("imagequeue_worker.supervisor")

RESTART_FIRST_SECONDS, RESTART_MAX_SECONDS = 0.5, 5.0
STEADY_SECONDS = 2.0  # a child that lived this long has begun to work: its end was no failed start
KILL_AFTER_GRACE_SECONDS = 5.0
EXIT_OK, EXIT_UNUSABLE, EXIT_INTERRUPTED = 0, 2, 130
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(slots=True)
class Child:
    """A place for one child process, which is started again when it ends. Times are monotonic seconds.

    The number of a worker's place names its metric files; the metrics server has none.
    """

    number: int | None
    pid: int = 0
    worker: str = ""
    starts: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0
    backoff_seconds: float = RESTART_FIRST_SECONDS


class Supervisor:
    """State: the children, and whether we are stopping."""

    def __init__(self, settings: Settings, nets: Nets, worker_class: type[BatchWorker] = BatchWorker) -> None:
        self._settings = settings
        self._nets = nets
        self._worker_class = worker_class
        self._metrics_folder = Path(tempfile.mkdtemp(prefix="imagequeue-metrics-"))
        self._workers = [Child(number) for number in range(settings.processes or usable_cores())]
        self._metrics = [Child(None)] if settings.metrics_port else []
        self._vitals = VitalsBoard(len(self._workers))
        use_metrics_slot(self._metrics_folder, "supervisor")
        self._counts = SupervisorMetrics(CollectorRegistry())
        self._waker = Waker()
        self._signal = 0
        self._kill_at = 0.0

    def run(self) -> int:
        """Supervise until told to stop and every worker has ended; the exit code of the command."""
        for signum in ENDING_SIGNALS:
            signal.signal(signum, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # that there is a handler is enough to be woken
        try:
            with self._waker.on_signals():
                self._supervise()
            return EXIT_INTERRUPTED if self._signal == signal.SIGINT else EXIT_OK
        finally:
            self._send(signal.SIGKILL, [*self._workers, *self._metrics])
            shutil.rmtree(self._metrics_folder, ignore_errors=True)

    def _supervise(self) -> None:
        while not self._signal:
            self._start_due()
            self._waker.sleep(self._seconds_until_restart())
            self._reap()
        self._wait_for_the_end()

    # --- children ------------------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in [*self._metrics, *self._workers]:
            if not child.pid and now >= child.restart_at:
                token = secrets.token_hex(4)
                child.starts += 1
                child.started_at = now
                child.pid = self._fork(child, token)
                child.worker = worker_name(child.pid, token)  # as the child names itself, without a word between them

    def _fork(self, child: Child, token: str) -> int:
        """Start a child that ends with us; its pid."""
        parent = os.getpid()
        vitals = None if child.number is None else self._vitals.rows[child.number]
        if vitals:
            vitals.clear()
        # A signal waits until the child no longer has our handlers: they would take it, and the child work on.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self._be_child(parent, child, token)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        if vitals:
            vitals.belongs_to(pid)
        return pid

    def _be_child(self, parent: int, child: Child, token: str) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for signum in (*ENDING_SIGNALS, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
            die_with_parent(parent)
            if child.number is None:
                self._serve_metrics(parent)
            else:
                self._worker_class.supervisor = parent
                self._work(child.number, token)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            log.exception("child failed")
        finally:
            os._exit(code)  # never back into the parent's frames

    def _work(self, slot: int, token: str) -> None:
        """A worker process: from here to its end."""
        use_metrics_slot(self._metrics_folder, slot)
        worker_class = self._worker_class
        worker_class.settings, worker_class.nets = self._settings, self._nets
        worker_class.vitals = self._vitals.rows[slot]
        worker_class.metrics = Metrics(CollectorRegistry())
        worker_class.metrics.images_in_flight.set(0)  # our predecessor's may stand there still
        connection = connect(self._settings.redis_url, resend=False)
        name = worker_name(os.getpid(), token)
        name_process(worker=name)
        worker = _patiently(lambda: worker_class(list(self._settings.queues), name, connection=connection))
        worker.work()

    def _reap(self) -> None:
        """Note which children have ended."""
        while any(child.pid for child in [*self._workers, *self._metrics]):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            for child in [*self._workers, *self._metrics]:
                if child.pid == pid:
                    self._note_end(child, os.waitstatus_to_exitcode(status))

    def _note_end(self, child: Child, code: int) -> None:
        now = time.monotonic()
        failed_start = now - child.started_at < STEADY_SECONDS
        child.pid = 0
        child.backoff_seconds = child.backoff_seconds * 2 if failed_start else RESTART_FIRST_SECONDS
        child.backoff_seconds = min(child.backoff_seconds, RESTART_MAX_SECONDS)
        # One that took its leave (too large, or told to by RQ) has had its time.
        child.restart_at = now if code == 0 and not failed_start else now + child.backoff_seconds
        if child.number is None:
            if code == EXIT_UNUSABLE and child.starts == 1 and failed_start:
                raise SettingsError(
                    f"cannot serve /metrics at {self._settings.metrics_host}:{self._settings.metrics_port}; "
                    "choose another --metrics-port, or 0 for none"
                )
            if not self._signal:  # a signal to the whole group ends it, too
                log.error("metrics server ended", code=code, restart_in=child.backoff_seconds)
            return
        self._vitals.rows[child.number].belongs_to(0)
        if not self._signal:
            self._counts.count_end(code)
        if code:
            log.error("worker process ended", worker=child.worker, code=code, restart_in=child.backoff_seconds)
            self._reclaim(child.worker)

    def _reclaim(self, worker: str) -> None:
        """Put back at once what a dead child held; if that fails, its leases end by themselves."""
        try:
            with connect(self._settings.redis_url, resend=False, socket_timeout_seconds=2.0) as connection:
                protocol = Protocol(
                    connection, worker, self._settings.queues,
                    lease_seconds=self._settings.lease_seconds, result_ttl=self._settings.result_ttl,
                )  # fmt: skip
                for queue, job, what in protocol.reclaim(losses_max=self._settings.losses_max, dead_worker=worker):
                    self._counts.recovered_jobs.labels(reason=f"dead_child_{what}").inc()
                    log.warning("took back a job of a dead child", queue=queue, job=job, what=what)
        except redis.RedisError as error:
            log.warning("could not take back a dead child's jobs; their leases will end", error=str(error))

    def _seconds_until_restart(self) -> float:
        waiting = [child.restart_at for child in [*self._workers, *self._metrics] if not child.pid]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else 3600.0

    def _serve_metrics(self, supervisor_pid: int) -> None:
        """The metrics server: from here to its end."""
        try:
            run_metrics_server(self._settings, self._metrics_folder, self._vitals, supervisor_pid)
        except OSError as error:
            address = (self._settings.metrics_host, self._settings.metrics_port)
            log.error("cannot serve /metrics", address=address, error=str(error))
            raise SystemExit(EXIT_UNUSABLE) from error

    # --- the end -------------------------------------------------------------------------------------------------

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass it on; a child counts its signals itself."""
        if not self._signal:
            self._signal = signum
            self._vitals.begin_to_end()
            self._kill_at = time.monotonic() + self._settings.grace + KILL_AFTER_GRACE_SECONDS
        self._send(signal.SIGTERM, self._workers)

    def _wait_for_the_end(self) -> None:
        self._send(signal.SIGTERM, self._workers)  # one may have been forked while the signal came
        while any(child.pid for child in self._workers) and time.monotonic() < self._kill_at:
            self._waker.sleep(self._kill_at - time.monotonic())
            self._reap()

    def _send(self, signum: signal.Signals, children: list[Child]) -> None:
        for child in children:
            if child.pid:
                # A handler may run just when a child has been waited for and its end is not noted yet.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signum)


def _patiently(make: Callable[[], BatchWorker]) -> BatchWorker:
    """Make a worker as soon as Redis is there; it was when the command started."""
    pauses, away = backoff(BACKOFF_LAST_SECONDS), False
    while True:
        try:
            return make()
        except redis.RedisError as error:
            if not passes(error):
                raise
            if not away:
                log.warning("Redis is away; trying again", error=f"{type(error).__name__}: {error}")
            away = True
            time.sleep(next(pauses))
