"""`imagequeue-worker bench`: what this machine does, and what keeps it from doing more."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagequeue_worker.cores import usable_cores
from imagequeue_worker.errors import WorkerError
from imagequeue_worker.settings import Settings, settings_options

if TYPE_CHECKING:
    from rich.table import Table

    from imagequeue_worker.stages import StageMs
    from imagequeue_worker.trial import Trial

EXIT_SOME_FAILED = 1
PICTURES_MOST = 200
STAGES_SHARE = 0.25  # of the time asked for; the rest is for the queue
BUSY = 0.8  # of a core, or of all: above this it is what limits


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured, and the machine's and the trial's numbers that the verdict needs."""

    stages: StageMs
    trial: Trial
    cores: int
    processes: int
    load_average: float  # when the trial began: of others

    def ms_per_image(self, seconds: float | None) -> float | None:
        """Processor seconds of the trial, as milliseconds of an image."""
        return None if seconds is None else 1000 * seconds / self.trial.images

    @property
    def queue_ms(self) -> float | None:
        """What a worker process takes for an image beyond its stages: the queue, threads, results."""
        worker = self.ms_per_image(self.trial.worker_cpu_seconds)
        return None if worker is None else max(0.0, worker - self.stages.sum)


@click.command()
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True), help="Picture or folder  [default: scikit-image's]"
)
@click.option("--seconds", type=click.FloatRange(1, 600), default=30.0, show_default=True, help="How long, about")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table")
@settings_options("nets", "engine", "processes", "batch_images", "decode_threads")
def bench(images: Path | None, seconds: float, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Measure this machine: images per second through a Redis of its own, ms per stage, and what limits it.

    Client and Redis run on the same cores as the workers. Best on a machine that does nothing else.
    """
    from imagequeue_worker.nets import load_nets
    from imagequeue_worker.stages import measure_stages
    from imagequeue_worker.trial import run_trial
    from imagequeue_worker.zoo import find_nets

    settings = Settings(**options)
    found = find_nets(settings.nets)
    net = load_nets(found.choices, settings.engine).first
    files = _files(images)
    cores = usable_cores()
    processes = settings.processes or cores
    load = os.getloadavg()[0]
    stages = measure_stages(net, files, seconds=STAGES_SHARE * seconds)
    trial = run_trial(files, found.choices, settings, processes, (1 - STAGES_SHARE) * seconds)
    figures = Figures(stages, trial, cores, processes, load)
    if as_json:
        click.echo(json.dumps(_as_json(figures, net.model.name, net.engine, len(files))))
    else:
        from imagequeue.terminal import print_tables

        print_tables(_table(figures, f"{net.model.name}, engine {net.engine}", len(files)))
    sys.exit(EXIT_SOME_FAILED if trial.failed else 0)


def limit_of(figures: Figures) -> str:
    """What keeps the machine from doing more images per second, in a sentence."""
    trial = figures.trial
    worker, redis, client = trial.worker_cpu_seconds, trial.redis_cpu_seconds, trial.client_cpu_seconds
    if worker is None or redis is None:
        return f"not known, as there is no /proc here; the longest stage is {_longest(figures)}"
    if redis >= BUSY * trial.seconds:
        return "Redis: it has one core, and that is busy; submit more images per job"
    if client >= BUSY * trial.seconds:
        return "the producer: it has one core, and that is busy; several producers submit more"
    if worker + redis + client >= BUSY * trial.seconds * figures.cores:
        return f"the processor: all cores are busy, longest with {_longest(figures)}"
    if worker >= BUSY * trial.seconds * figures.processes:
        return f"the number of processes: {figures.processes} on {figures.cores} cores; raise --processes"
    if figures.load_average >= BUSY * figures.cores:
        return f"other programs: the load was {figures.load_average:.1f} on {figures.cores} cores before it began"
    if trial.fetch_seconds * 1000 > figures.stages.sum:
        return "reading: an image's bytes take longer to come than to be classified (disk or network)"
    return "waiting: nothing is busy; more processes or --decode-threads may help"


def _longest(figures: Figures) -> str:
    stages = asdict(figures.stages) | {"queue": figures.queue_ms or 0.0}
    name = max(stages, key=lambda stage: stages[stage])
    return f"the {name} ({stages[name]:.2f} of {sum(stages.values()):.2f} ms per image)"


def _files(images: Path | None) -> list[Path]:
    """The pictures to classify: not more than what is read once in a moment."""
    from imagequeue.sources import references
    from imagequeue_worker.commands.demo import demo_pictures

    found: Iterable[Path] = demo_pictures() if images is None else map(Path, references([str(images)], ()))
    files = [path.resolve() for _, path in zip(range(PICTURES_MOST), found, strict=False)]
    if not files:
        raise WorkerError(f"{images} holds no pictures; name a folder that does")
    return files


def _as_json(figures: Figures, net: str, engine: str, pictures: int) -> dict[str, Any]:
    trial = figures.trial
    return {
        "net": net,
        "engine": engine,
        "cores": figures.cores,
        "load_average": round(figures.load_average, 2),
        "processes": figures.processes,
        "pictures": pictures,
        "images": trial.images,
        "failed": trial.failed,
        "seconds": round(trial.seconds, 3),
        "images_per_second": round(trial.images_per_second, 1),
        "cpu_ms_per_image": {name: round(ms, 4) for name, ms in _cpu_ms(figures).items() if ms is not None},
        "limit": limit_of(figures),
    }


def _cpu_ms(figures: Figures) -> dict[str, float | None]:
    """Stages of a worker, then the queue's share of it, then the others."""
    return {
        **asdict(figures.stages),
        "queue": figures.queue_ms,
        "redis": figures.ms_per_image(figures.trial.redis_cpu_seconds),
        "client": figures.ms_per_image(figures.trial.client_cpu_seconds),
    }


def _table(figures: Figures, net: str, pictures: int) -> Table:
    from rich.table import Table

    trial = figures.trial
    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_row("net", net)
    rows.add_row("machine", f"{figures.cores} cores, load {figures.load_average:.1f} before it began")
    rows.add_row("processes", str(figures.processes))
    failed = f", {trial.failed} of them failed" if trial.failed else ""
    rows.add_row("images", f"{trial.images:,} in {trial.seconds:.1f} s, of {pictures} pictures{failed}")
    rows.add_row("images/s", f"{trial.images_per_second:,.1f}")
    said = ", ".join(f"{name} {ms:.2f}" for name, ms in _cpu_ms(figures).items() if ms is not None)
    rows.add_row("cpu ms per image", said)
    rows.add_row("limited by", limit_of(figures))
    return rows
