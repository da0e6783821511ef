"""One worker process per core: the net is loaded once before the fork, dead children are replaced, one /metrics.

The supervisor holds no threads and no lasting connection, so that it can fork at any time; /metrics is served by a
child of its own. Children end with it, also when it is killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
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

from imagequeue.connection import UNAVAILABLE, connect
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.metrics_server import serve_metrics, use_metrics_slot
from imagequeue_worker.nets import Nets
from imagequeue_worker.parent import die_with_parent
from imagequeue_worker.protocol import Protocol
from imagequeue_worker.settings import Settings
from imagequeue_worker.waiting import Waker

log = structlog.get_logger("imagequeue_worker.supervisor")

RESTART_FIRST_SECONDS, RESTART_MAX_SECONDS = 0.5, 30.0
STEADY_SECONDS = 10.0  # a child that lived this long was no failed start
KILL_AFTER_GRACE_SECONDS = 5.0
EXIT_OK, EXIT_UNUSABLE = 0, 2


@dataclass(slots=True)
class Slot:
    """A place for one worker process; its number names the process's metric files. Times are monotonic seconds."""

    number: int
    pid: int = 0
    worker: str = ""
    started_at: float = 0.0
    restart_at: float = 0.0
    backoff_seconds: float = RESTART_FIRST_SECONDS


class Supervisor:
    """State: the slots, the metrics child, and whether we are stopping."""

    def __init__(self, settings: Settings, nets: Nets, worker_class: type[BatchWorker] = BatchWorker) -> None:
        self._settings = settings
        self._nets = nets
        self._worker_class = worker_class
        self._metrics_folder = Path(tempfile.mkdtemp(prefix="imagequeue-metrics-"))
        self._slots = [Slot(number) for number in range(settings.processes or os.cpu_count() or 1)]
        self._metrics_pid = 0
        self._waker = Waker()
        self._stopping = False
        self._kill_at = 0.0

    def run(self) -> int:
        """Supervise until told to stop and every child has ended; the exit code of the command."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: self._waker.wake())
        try:
            if self._settings.metrics_port:
                self._metrics_pid = self._fork(self._serve_metrics)
            while not self._stopping:
                self._start_due()
                self._waker.sleep(self._seconds_until_restart())
                if not self._reap():
                    return EXIT_UNUSABLE
            self._wait_for_the_end()
            return EXIT_OK
        finally:
            self._signal_children(signal.SIGKILL)
            if self._metrics_pid:
                os.kill(self._metrics_pid, signal.SIGKILL)
            shutil.rmtree(self._metrics_folder, ignore_errors=True)

    # --- children ------------------------------------------------------------------------------------------------

    def _fork(self, main: Callable[[], None]) -> int:
        """Run `main` in a child that ends with us; the child's pid."""
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            self._be_child(parent, main)
        return pid

    def _be_child(self, parent: int, main: Callable[[], None]) -> NoReturn:
        code = 1
        try:
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            die_with_parent(parent)
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            log.exception("child failed")
        finally:
            os._exit(code)  # never back into the parent's frames

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if not slot.pid and now >= slot.restart_at:
                token = secrets.token_hex(4)
                slot.started_at = now
                slot.pid = self._fork(lambda slot=slot, token=token: self._work(slot, token))  # type: ignore[misc]
                slot.worker = _worker_name(slot.pid, token)

    def _work(self, slot: Slot, token: str) -> None:
        """A worker process: from here to its end."""
        use_metrics_slot(self._metrics_folder, slot.number)
        worker_class = self._worker_class
        worker_class.settings, worker_class.nets = self._settings, self._nets
        worker_class.metrics = Metrics(CollectorRegistry())
        worker_class.metrics.images_in_flight.set(0)  # our predecessor's may stand there still
        connection = connect(self._settings.redis_url, resend=False)
        worker = _patiently(
            lambda: worker_class(list(self._settings.queues), _worker_name(os.getpid(), token), connection=connection)
        )
        worker.work()

    def _reap(self) -> bool:
        """Note which children have ended; False when the command cannot go on."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if not pid:
                return True
            code = os.waitstatus_to_exitcode(status)
            if pid == self._metrics_pid:
                self._metrics_pid = 0
                if code == EXIT_UNUSABLE:
                    return False
                if not self._stopping:
                    self._metrics_pid = self._fork(self._serve_metrics)
            for slot in self._slots:
                if slot.pid == pid:
                    self._note_end(slot, code)

    def _note_end(self, slot: Slot, code: int) -> None:
        now = time.monotonic()
        lived = now - slot.started_at
        slot.pid = 0
        slot.backoff_seconds = RESTART_FIRST_SECONDS if lived > STEADY_SECONDS else slot.backoff_seconds * 2
        slot.backoff_seconds = min(slot.backoff_seconds, RESTART_MAX_SECONDS)
        slot.restart_at = now + slot.backoff_seconds
        if code:
            log.error("worker process ended", worker=slot.worker, code=code, restart_in=slot.backoff_seconds)
            self._reclaim(slot.worker)

    def _reclaim(self, worker: str) -> None:
        """Put back at once what a dead child held; if that fails, its leases end by themselves."""
        try:
            with connect(self._settings.redis_url, resend=False, socket_timeout_seconds=2.0) as connection:
                protocol = Protocol(
                    connection, worker, self._settings.queues,
                    lease_seconds=self._settings.lease_seconds, result_ttl=self._settings.result_ttl,
                )  # fmt: skip
                for queue, job, what in protocol.reclaim(losses_max=self._settings.losses_max, dead_worker=worker):
                    log.warning("took back a job of a dead child", queue=queue, job=job, what=what)
        except redis.RedisError as error:
            log.warning("could not take back a dead child's jobs; their leases will end", error=str(error))

    def _seconds_until_restart(self) -> float:
        now = time.monotonic()
        return max(0.0, min((slot.restart_at - now for slot in self._slots if not slot.pid), default=3600.0))

    # --- metrics -------------------------------------------------------------------------------------------------

    def _serve_metrics(self) -> None:
        settings = self._settings
        connection = connect(settings.redis_url, resend=True, socket_timeout_seconds=2.0)
        try:
            serve_metrics(
                settings.metrics_host, settings.metrics_port, self._metrics_folder, connection, settings.queues,
                os.getppid(),
            )  # fmt: skip
        except OSError as error:
            address = f"{settings.metrics_host}:{settings.metrics_port}"
            log.error("cannot serve /metrics; choose another --metrics-port", address=address, error=str(error))
            raise SystemExit(EXIT_UNUSABLE) from error
        while True:
            signal.pause()

    # --- the end -------------------------------------------------------------------------------------------------

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Pass it on; a child counts its signals itself."""
        if not self._stopping:
            self._stopping = True
            self._kill_at = time.monotonic() + self._settings.grace + KILL_AFTER_GRACE_SECONDS
        self._signal_children(signal.SIGTERM)
        self._waker.wake()

    def _wait_for_the_end(self) -> None:
        self._signal_children(signal.SIGTERM)  # one may have been forked while the signal came
        while any(slot.pid for slot in self._slots) and time.monotonic() < self._kill_at:
            self._waker.sleep(self._kill_at - time.monotonic())
            self._reap()

    def _signal_children(self, signum: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid:
                os.kill(slot.pid, signum)


def _worker_name(pid: int, token: str) -> str:
    """Known to the supervisor and its child without a word between them."""
    return f"{socket.gethostname()}.{pid}.{token}"


def _patiently(make: Callable[[], BatchWorker]) -> BatchWorker:
    """Make a worker as soon as Redis is there; it was when the command started."""
    seconds = 0.1
    while True:
        try:
            return make()
        except UNAVAILABLE as error:
            log.warning("Redis is away; trying again", error=str(error))
            time.sleep(seconds)
            seconds = min(2 * seconds, 2.0)
