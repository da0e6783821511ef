"""What metrics cost: the same work with and without them, turn by turn, in one run; and what a scrape takes.

The metrics are those of a supervised worker (files that a metrics server reads), scraped once a second meanwhile by a
process of its own. Throughput (medians) swings on a shared machine; so the worker's processor time per image is
printed, too, of the best turn: what disturbs a turn only adds to it.

    python tests/benchmarks/metrics.py [--images 6000] [--turns 9] [--net folder] [--slots 8] [--json]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from prometheus_client import CollectorRegistry, generate_latest, values
from queue_rate import NothingPipeline

from imagequeue import Producer
from imagequeue.connection import connect
from imagequeue.contract import QUEUES
from imagequeue_worker.batch_worker import BatchWorker, make_pipeline
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.logs import configure_logging
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.metrics_server import SlotsCollector, use_metrics_slot
from imagequeue_worker.nets import Nets, load_nets
from imagequeue_worker.settings import NetChoice, Settings

SCRAPER = """
import sys, time
from pathlib import Path
from prometheus_client import CollectorRegistry, generate_latest
from imagequeue_worker.metrics_server import SlotsCollector
registry = CollectorRegistry()
registry.register(SlotsCollector(Path(sys.argv[1])))
while True:
    time.sleep(1)
    generate_latest(registry)
"""


class Nothing:
    """Metrics that do nothing, whatever they are asked."""

    def __getattr__(self, name: str) -> Nothing:
        return self

    def __call__(self, *arguments: object, **options: object) -> Nothing:
        return self


def turn(url: str, metrics: Any, refs: list[str], batch: int, chunk: int, nets: Nets | None) -> tuple[float, float]:
    """Images per second, and microseconds of processor time per image, of one worker."""
    with connect(url, resend=False) as connection:
        connection.flushdb()
        with Producer(url, depth_limit=10**9) as producer:
            producer.submit_many(refs, chunk=chunk)

        class Worker(BatchWorker):
            settings = Settings(batch_images=batch, image_roots=(Path("/"),), engine="auto")

        Worker.nets = nets or ()  # type: ignore[assignment]
        Worker.metrics = metrics
        Worker.make_pipeline = staticmethod(make_pipeline if nets else lambda *_: NothingPipeline())  # type: ignore[assignment]
        worker = Worker(list(QUEUES), connection=connection)
        marks: list[tuple[float, float]] = []
        begin, end = worker._begin, worker._end

        def mark() -> None:
            marks.append((time.perf_counter(), time.process_time()))

        worker._begin = lambda machine: (begin(machine), mark())[0]  # type: ignore[method-assign]
        worker._end = lambda machine: (mark(), end(machine))[1]  # type: ignore[method-assign]
        worker.work(burst=True)
        (wall, cpu), (wall_end, cpu_end) = marks
        return len(refs) / (wall_end - wall), (cpu_end - cpu) / len(refs) * 1e6


def compare(name: str, url: str, metrics: Metrics, turns: int, refs: list[str], *rest: Any) -> dict[str, Any]:
    """Medians with and without metrics; who begins changes with every turn."""
    kinds: dict[str, Any] = {"with": metrics, "without": Nothing()}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(turns):
        for kind in sorted(kinds, reverse=bool(number % 2)):
            rate, cost = turn(url, kinds[kind], refs, *rest)
            rates[kind].append(rate)
            costs[kind].append(cost)
    rate = {kind: statistics.median(rates[kind]) for kind in kinds}
    cost = {kind: min(costs[kind]) for kind in kinds}
    return {
        "case": name,
        "images_per_second_with": round(rate["with"]),
        "images_per_second_without": round(rate["without"]),
        "throughput_lost_percent": round((1 - rate["with"] / rate["without"]) * 100, 1),
        "cpu_us_with": round(cost["with"], 2),
        "cpu_us_without": round(cost["without"], 2),
        "cpu_cost_percent": round((cost["with"] / cost["without"] - 1) * 100, 1),
    }


def scrape_ms(folder: Path, slots: int) -> float:
    """Milliseconds, at best, of a page of so many worker processes, each of which has seen everything."""
    for slot in range(slots):
        fill(folder, slot)
    registry = CollectorRegistry()
    registry.register(SlotsCollector(folder))
    took = []
    for _ in range(20):
        began = time.perf_counter()
        generate_latest(registry)
        took.append(time.perf_counter() - began)
    return min(took) * 1000


def fill(folder: Path, slot: int) -> None:
    """A slot's files, with ten kinds of errors."""
    code = (
        "import sys; from pathlib import Path; from prometheus_client import CollectorRegistry; "
        "from imagequeue_worker.metrics import Metrics; from imagequeue_worker.metrics_server import use_metrics_slot; "
        "use_metrics_slot(Path(sys.argv[1]), int(sys.argv[2])); m = Metrics(CollectorRegistry()); "
        "[m.images_with((q, 'net', 'error', f'code{n}')).inc() for q in ('a', 'b', 'c') for n in range(10)]"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(slot)], check=True)


@click.command()
@click.option("--images", default=6000, show_default=True, help="Images per turn, of the queue alone")
@click.option("--turns", default=9, show_default=True)
@click.option("--net", type=click.Path(path_type=Path, exists=True), help="A real net, on --pictures")
@click.option("--pictures", type=click.Path(path_type=Path, exists=True), help="Folder of photographs")
@click.option("--slots", default=8, show_default=True, help="Worker processes of the page that is timed")
@click.option("--json", "as_json", is_flag=True)
def main(images: int, turns: int, net: Path | None, pictures: Path | None, slots: int, as_json: bool) -> None:
    """Measure and print."""
    configure_logging("error", json=False)
    rows = []
    with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name) / "redis") as server:
        folder = Path(name) / "metrics"
        folder.mkdir()
        use_metrics_slot(folder, 0)
        metrics = Metrics(CollectorRegistry())
        scraper = subprocess.Popen([sys.executable, "-c", SCRAPER, str(folder)])
        try:
            for batch, chunk in ((1, 1), (64, 1), (64, 64)):
                count = images // 4 if batch == 1 else images * (8 if chunk > 1 else 1)  # a second or so each
                refs = [f"/nowhere/{number}.jpg" for number in range(count)]
                rows.append(compare(
                    f"no net, batch {batch}, {chunk} per job", server.url, metrics, turns, refs, batch, chunk, None
                ))  # fmt: skip
            if net and pictures:
                nets = load_nets([NetChoice(net)], "auto")
                files = sorted(str(path) for path in pictures.iterdir())
                rows.append(compare(f"{net.name}, batch 32", server.url, metrics, turns, files, 32, 16, nets))
        finally:
            scraper.kill()
            scraper.wait()
        values.ValueClass = values.MutexValue
        rows.append({"case": f"scrape of {slots} processes", "ms": round(scrape_ms(folder, slots), 1)})
    for row in rows:
        click.echo(json.dumps(row) if as_json else "  ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
