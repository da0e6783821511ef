"""The pages of a supervisor and all of its worker processes, served by a process of their own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from wsgiref.simple_server import WSGIServer

import redis
from prometheus_client import CollectorRegistry, ProcessCollector, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from imagequeue_worker.connections import reading_connection
from imagequeue_worker.fleet_metrics import FleetCollector, gauge
from imagequeue_worker.pages import serve_pages
from imagequeue_worker.probes import Probe, processes_ready, why_no_redis, why_not_live, why_not_ready
from imagequeue_worker.settings import Settings
from imagequeue_worker.vitals import VitalsBoard


def use_metrics_slot(folder: Path, slot: int | str) -> None:
    """Let this process's metrics live in files of `folder` that belong to its slot.

    By slot, not by pid: a restarted child goes on where its predecessor stopped, so that counters never go back and
    files do not grow. Call after the fork and before the metrics are made.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: slot)


class SlotsCollector(Collector):
    """What all slots have counted, summed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Read the files of all slots."""
        # One that has no byte yet was made this instant, or by a process that was killed right then.
        files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size]
        yield from MultiProcessCollector.merge(files)


class ProcessesCollector(Collector):
    """How many worker processes there are to be, and how many work."""

    def __init__(self, board: VitalsBoard) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Count them."""
        yield gauge("processes", "Worker processes that the command is to run", len(self._board.rows))
        yield gauge("processes_ready", "Of these, those that take images", processes_ready(self._board))


def run_metrics_server(settings: Settings, folder: Path, board: VitalsBoard, supervisor: int) -> None:
    """Serve the pages until SIGTERM, which also comes when the supervisor ends; raise OSError when the port is taken.

    `supervisor` is the pid whose memory and CPU are shown. If it was killed, nobody else removes the folder.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in every thread: waited for below
    serve_worker_pages(settings, folder, board, reading_connection(settings.redis_url), supervisor)
    signal.sigwait([signal.SIGTERM])
    if os.getppid() != supervisor:
        shutil.rmtree(folder, ignore_errors=True)


def serve_worker_pages(
    settings: Settings, folder: Path, board: VitalsBoard, connection: redis.Redis, pid: int
) -> WSGIServer:
    """Serve them from a thread of this process."""
    registry = CollectorRegistry()
    for collector in (
        SlotsCollector(folder), ProcessesCollector(board), FleetCollector(connection, settings.queues),
    ):  # fmt: skip
        registry.register(collector)
    ProcessCollector(pid=lambda: pid, registry=registry)
    probes = {
        Probe.LIVE: lambda: why_not_live(board, stall_timeout_seconds=settings.stall_timeout),
        Probe.READY: lambda: why_not_ready(board, lambda: why_no_redis(connection)),
    }
    return serve_pages(settings.metrics_host, settings.metrics_port, registry, probes)
