"""One image at a time in a process of its own: for jobs that a worker was lost with.

    worker ── server ── child, one per try

The server is forked before the worker has threads, since a fork copies one thread alone and whatever locks the others
hold. It waits, sharing the packed nets, and forks a child for every try: bounded in memory and time, first in line for
the kernel's OOM killer, gone with its parents. An image that ends two children ends as `worker_lost`, and nobody else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import structlog

from imagequeue.contract import ErrorCode, Failure
from imagequeue_worker.errors import IsolationUnavailable
from imagequeue_worker.jobs import FinishedJob, TakenJob, failed_outcome
from imagequeue_worker.parent import die_with_parent

log = structlog.get_logger("imagequeue_worker.isolation")

DEATHS_MAX: Final = 2
_EXIT_MEMORY: Final = 71  # EX_OSERR
_LENGTH_BYTES: Final = 4
_ANSWER_LATE_SECONDS: Final = 10.0  # by which the server's answer may come after its child's time
_LOOK_SECONDS: Final = 0.25

ClassifyAlone = Callable[[TakenJob], FinishedJob]
"""Classifies a job that owns one image; runs in the child."""


class _Report(msgspec.Struct, frozen=True):
    """What became of a child: its answer (a FinishedJob), or how it died."""

    answer: bytes | None = None
    death: str = ""


_encode = msgspec.msgpack.encode
_decode_order = msgspec.msgpack.Decoder(TakenJob).decode
_decode_report = msgspec.msgpack.Decoder(_Report).decode
_decode_answer = msgspec.msgpack.Decoder(FinishedJob).decode


class Isolation:
    """Owns the server process. Make it before the first thread; used by the thread that made it."""

    def __init__(self, classify_alone: ClassifyAlone, *, seconds: float, memory_bytes: int, worker: str = "") -> None:
        self._seconds = seconds
        self._worker = worker
        parent = os.getpid()
        self._channel, theirs = socket.socketpair()
        self._pid = os.fork()
        if not self._pid:
            self._channel.close()
            _Server(theirs, classify_alone, seconds, memory_bytes).run(parent)
        theirs.close()

    def classify(self, taken: TakenJob, on_wait: Callable[[], None] = lambda: None) -> FinishedJob:
        """Classify a job that owns one image; `on_wait` is called several times a second meanwhile.

        Raises IsolationUnavailable when the server does not answer: it was killed, or cannot fork.
        """
        deaths: list[str] = []
        while len(deaths) < DEATHS_MAX:
            report = self._ask(taken, on_wait)
            if report.answer is not None:
                return _decode_answer(report.answer)
            deaths.append(report.death)
            log.warning("an image ended its process", job=taken.lease.job, id=taken.ids[0], death=report.death)
        return _lost(taken, deaths, self._worker)

    def close(self) -> None:
        """End the server; a child that is at work ends with it."""
        self._channel.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the supervisor's reaping, or RQ's, was faster
            os.waitpid(self._pid, 0)

    def _ask(self, taken: TakenJob, on_wait: Callable[[], None]) -> _Report:
        until = time.monotonic() + self._seconds + _ANSWER_LATE_SECONDS
        try:
            _send(self._channel, _encode(taken))
            while not select.select([self._channel], [], [], _LOOK_SECONDS)[0]:
                on_wait()
                if time.monotonic() > until:
                    raise IsolationUnavailable("the isolation server does not answer; this worker ends")
            report = _receive(self._channel)
        except OSError as error:
            raise IsolationUnavailable(f"the isolation server is gone ({error}); this worker ends") from error
        if report is None:
            raise IsolationUnavailable("the isolation server is gone; this worker ends")
        return _decode_report(report)


def _lost(taken: TakenJob, deaths: list[str], worker: str) -> FinishedJob:
    request = taken.request()
    (id_,) = taken.ids
    ref = next(image.ref for image in request.images if image.id == id_)
    failure = Failure(ErrorCode.WORKER_LOST.value, f"two processes of its own ended on it: {'; '.join(deaths)}")
    return FinishedJob(taken, [failed_outcome(taken, id_, ref, failure, worker)], request)


class _Server:
    """The process between: forks a child for every order, and tells how it ended."""

    def __init__(self, channel: socket.socket, classify: ClassifyAlone, seconds: float, memory_bytes: int) -> None:
        self._channel = channel
        self._classify = classify
        self._seconds = seconds
        self._memory_bytes = memory_bytes

    def run(self, parent: int) -> NoReturn:
        """Serve until the worker is gone; never back into its frames."""
        try:
            # Ctrl-C and a service manager's SIGTERM reach the whole group: the worker decides when we end.
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent, signal.SIGKILL)
            gc.freeze()  # so that children do not copy pages for the sake of a collection
            while (order := _receive(self._channel)) is not None:
                _send(self._channel, _encode(self._run_child(order)))
        except OSError as error:
            log.error("isolation server ends", error=str(error))
        finally:
            os._exit(0)

    def _run_child(self, order: bytes) -> _Report:
        server = os.getpid()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read_end)
            self._be_child(server, order, write_end)
        os.close(write_end)
        until = time.monotonic() + self._seconds
        answer = _read_until(read_end, until)
        code = None if answer is None else _wait_until(pid, until)
        os.close(read_end)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return _Report(death=f"took longer than {self._seconds:g} s (--isolation-seconds)")
        if code == _EXIT_MEMORY:
            return _Report(death=f"needed more than {self._memory_bytes} bytes of memory (--isolation-memory)")
        if code:
            return _Report(death=f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}")
        return _Report(answer=answer)

    def _be_child(self, server: int, order: bytes, write_end: int) -> NoReturn:
        code = 1
        try:
            die_with_parent(server, signal.SIGKILL)
            _limit_memory(self._memory_bytes)
            answer = memoryview(_encode(self._answer(_decode_order(order))))
            while answer:
                answer = answer[os.write(write_end, answer) :]
            code = 0
        except MemoryError:
            code = _EXIT_MEMORY
        finally:
            os._exit(code)

    def _answer(self, taken: TakenJob) -> FinishedJob:
        """The job's answer; a defect is one of this image's, not of the job's others."""
        try:
            return self._classify(taken)
        except MemoryError:
            raise
        except Exception as error:
            log.exception("defect while classifying alone", job=taken.lease.job, id=taken.ids[0])
            failure = Failure(ErrorCode.INTERNAL.value, f"{type(error).__name__}: a defect; the worker's log has it")
            return FinishedJob(taken, [failed_outcome(taken, id_, "", failure, "") for id_ in taken.ids])


def _limit_memory(more_bytes: int) -> None:
    """Bound what this process may allocate beyond what it has, and offer it to the OOM killer first. Linux only."""
    with contextlib.suppress(OSError, ValueError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with contextlib.suppress(FileNotFoundError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
        limit = pages * resource.getpagesize() + more_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def _read_until(end: int, until: float) -> bytes | None:
    """All that a pipe gives; None when it is not closed in time."""
    parts: list[bytes] = []
    while (left := until - time.monotonic()) > 0 and select.select([end], [], [], left)[0]:
        part = os.read(end, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return None


def _wait_until(pid: int, until: float) -> int | None:
    """A child's exit code (a negative signal); None when it does not end in time."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.001)  # it has closed its pipe and is about to end


def _send(channel: socket.socket, message: bytes) -> None:
    channel.sendall(len(message).to_bytes(_LENGTH_BYTES, "big") + message)


def _receive(channel: socket.socket) -> bytes | None:
    """The next message; None when the other side is gone."""
    head = _receive_exactly(channel, _LENGTH_BYTES)
    return None if head is None else _receive_exactly(channel, int.from_bytes(head, "big"))


def _receive_exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)
