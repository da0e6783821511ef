"""`make demo`: the whole road on real parts, from a picture's path to a result in Redis, and what the metrics say."""

from __future__ import annotations

import socket
import tempfile
import time
import urllib.request
from pathlib import Path

import click

from imagequeue import Producer, Result, Status
from imagequeue.errors import WaitTimeout
from imagequeue.sources import references
from imagequeue.terminal import bar, print_tables, results_table
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.errors import WorkerError
from imagequeue_worker.own_worker import running_worker, wait_until_ready
from imagequeue_worker.settings import Settings
from imagequeue_worker.zoo import FoundNets

PICTURES = ("coffee.png", "chelsea.png", "rocket.jpg")  # photographs that scikit-image ships
METRICS_SECONDS = 2.0  # worker processes write theirs every quarter of a second


def run_demo(found: FoundNets, images: Path | None, settings: Settings, timeout_seconds: float) -> bool:
    """Run it; True when every picture has a result that is `ok`."""
    pictures = [str(images)] if images else [str(path) for path in demo_pictures()]
    refs = list(references(pictures, ()))
    root = images if images and images.is_dir() else Path(pictures[0]).parent
    port = _free_port()
    with (
        tempfile.TemporaryDirectory(prefix="imagequeue-demo-") as folder,
        EmbeddedRedis(Path(folder)) as server,
        Producer(server.url) as producer,
        running_worker(_arguments(server.url, found, root.resolve(), port, settings)) as process,
    ):
        click.echo(f"net      {', '.join(map(str, found.choices))} ({found.why})")
        click.echo(f"Redis    {server.url}\npictures {len(refs)} below {root}")
        wait_until_ready(producer, process)
        results = _classify(producer, refs, timeout_seconds)
        print_tables(results_table(results))
        click.echo("\n" + "\n".join(_metrics(port, len(results))))
    good = sum(result.status is Status.OK for result in results)
    click.echo(f"\n{good} of {len(refs)} pictures classified")
    return good == len(refs)


def demo_pictures() -> list[Path]:
    """The default pictures; raises WorkerError where scikit-image is not installed."""
    try:
        from skimage import data
    except ImportError as error:
        raise WorkerError("scikit-image is not installed; pip install 'imagequeue[demo]' or name --images") from error
    folder = Path(data.__file__).parent
    return [folder / name for name in PICTURES]


def _classify(producer: Producer, refs: list[str], timeout_seconds: float) -> list[Result]:
    started = time.monotonic()
    submission = producer.submit_many(refs)
    found: dict[str, Result] = {}
    with bar("classified", len(submission.ids), hidden=False) as advance:
        try:
            for result in producer.as_completed(submission.ids, timeout=timeout_seconds):
                found[result.id] = result
                advance(1)
        except WaitTimeout as error:
            click.echo(str(error), err=True)
    seconds = time.monotonic() - started
    click.echo(f"{len(found)} results in {seconds:.2f} s, {len(found) / seconds:.1f} images/s\n")
    return [found[id_] for id_ in submission.ids if id_ in found]


def _arguments(url: str, found: FoundNets, root: Path, port: int, settings: Settings) -> list[str]:
    """Those of the worker."""
    arguments = ["--redis-url", url, "--image-root", str(root), "--engine", settings.engine]
    arguments += ["--processes", str(settings.processes), "--metrics-port", str(port), "--log-level", "warning"]
    return arguments + [part for choice in found.choices for part in ("--net", str(choice))]


def _metrics(port: int, classified: int) -> list[str]:
    """Three lines of what /metrics says: images, time per stage, time per image."""
    values = _read_metrics(port)
    deadline = time.monotonic() + METRICS_SECONDS
    while values.get("imagequeue_images_total", 0) < classified and time.monotonic() < deadline:
        time.sleep(0.05)
        values = _read_metrics(port)

    def mean_ms(stage: str) -> float:
        count = values.get(f"imagequeue_{stage}_seconds_count", 0.0)
        return 1000 * values.get(f"imagequeue_{stage}_seconds_sum", 0.0) / count if count else 0.0

    stages = ", ".join(f"{stage} {mean_ms(stage):.1f}" for stage in ("fetch", "decode", "infer"))
    images, batches = values.get("imagequeue_images_total", 0), values.get("imagequeue_batches_total", 0)
    backlog = values.get("imagequeue_backlog_images", 0)
    return [
        f"/metrics: {images:.0f} images in {batches:.0f} batches, {backlog:.0f} waiting",
        f"/metrics: mean ms per image: {stages}",
        f"/metrics: mean ms from submission to worker {mean_ms('queue'):.0f}, to result {mean_ms('image'):.0f}",
    ]


def _read_metrics(port: int) -> dict[str, float]:
    """Each name's values, summed over its labels."""
    values: dict[str, float] = {}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        for line in response.read().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0]
                values[name] = values.get(name, 0.0) + float(value)
    return values


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
