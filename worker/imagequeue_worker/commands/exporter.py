"""`imagequeue-worker exporter`: what a Redis holds, for Prometheus; of all RQ queues, without a net."""

from __future__ import annotations

import signal
from typing import Any

import click

from imagequeue_worker.errors import SettingsError
from imagequeue_worker.settings import Settings, settings_options

DEFAULT_PORT = 9110


@click.command()
@click.option(
    "--exporter-host", default="127.0.0.1", show_default=True, envvar="IMAGEQUEUE_EXPORTER_HOST", show_envvar=True,
    help="Address that serves /metrics",
)  # fmt: skip
@click.option(
    "--exporter-port", type=click.IntRange(1, 65_535), default=DEFAULT_PORT, show_default=True,
    envvar="IMAGEQUEUE_EXPORTER_PORT", show_envvar=True, help="Port that serves /metrics",
)  # fmt: skip
@click.option(
    "--collections-max", type=click.IntRange(min=0), default=100, show_default=True,
    envvar="IMAGEQUEUE_COLLECTIONS_MAX", show_envvar=True,
    help="Collections that have series of their own, first by name; the rest are only counted",
)  # fmt: skip
@settings_options("redis_url", "log_level", "log_json")
def exporter(exporter_host: str, exporter_port: int, collections_max: int, **options: Any) -> None:  # noqa: ANN401
    """Serve /metrics of everything in a Redis: our queues and collections, and all of RQ's, until SIGTERM or Ctrl-C.

    For people who only use RQ, too: it needs RQ 3 keys, and reads only (role `exporter` of users.acl).
    """
    from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

    from imagequeue_worker.connections import reading_connection
    from imagequeue_worker.exporter_metrics import ExporterCollector
    from imagequeue_worker.logs import configure_logging
    from imagequeue_worker.pages import serve_pages
    from imagequeue_worker.probes import Probe, why_no_redis

    settings = Settings(**options)
    configure_logging(settings.log_level, json=settings.log_json)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # in every thread: waited for below
    # A Redis that is away is a number to show, and no reason to end.
    connection = reading_connection(settings.redis_url)
    registry = CollectorRegistry()
    for collector in (
        ExporterCollector(connection, collections_max=collections_max),
        PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR,
    ):  # fmt: skip
        registry.register(collector)
    probes = {Probe.LIVE: lambda: None, Probe.READY: lambda: why_no_redis(connection)}
    try:
        serve_pages(exporter_host, exporter_port, registry, probes)
    except OSError as error:
        raise SettingsError(
            f"cannot serve /metrics at {exporter_host}:{exporter_port} ({error}); choose another --exporter-port"
        ) from error
    signal.sigwait([signal.SIGTERM])
