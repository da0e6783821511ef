"""`imagequeue-worker probe`: health checks of containers, without curl."""

from __future__ import annotations

import sys

import click

from imagequeue_worker.probes import Probe, ask
from imagequeue_worker.settings import settings_options

EXIT_NO = 1


@click.command()
@click.argument("what", type=click.Choice([str(probe) for probe in Probe]))
@settings_options("metrics_host", "metrics_port")
def probe(what: str, metrics_host: str, metrics_port: int) -> None:
    """Ask the worker or exporter on this machine whether it is live, or ready; exit code 1 when it is not.

    \b
    imagequeue-worker probe live                             of `run`
    imagequeue-worker probe ready --metrics-port 9110        of `exporter`
    """
    problem = ask(metrics_host, metrics_port, Probe(what))
    click.echo(problem or "ok", err=problem is not None)
    sys.exit(0 if problem is None else EXIT_NO)
