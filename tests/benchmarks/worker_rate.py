"""What a whole worker does with one core: `imagequeue-worker run --processes 1`, real pictures, through Redis.

Counted in processor time of the command, which is less at the mercy of a busy machine than the clock.

    python tests/benchmarks/worker_rate.py PICTURES [--net folder] [--images 2000]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import click

from imagequeue import Image, Producer
from imagequeue_worker.embedded_redis import EmbeddedRedis

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
IN_VAIN_SECONDS = 300.0


@click.command()
@click.argument("pictures", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True))
@click.option("--net", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Default: a worker's own")
@click.option("--images", default=2000, show_default=True)
def main(pictures: Path, net: Path | None, images: int) -> None:
    """Measure and print one line."""
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder)) as server,
        Producer(server.url) as producer,
    ):
        command = [sys.executable, "-m", "imagequeue_worker.cli", "run", "--redis-url", server.url, "--processes", "1"]
        command += ["--image-root", str(pictures), "--metrics-port", "0", "--log-level", "warning"]
        worker = subprocess.Popen([*command, "--net", str(net)] if net else command)
        try:
            chosen = islice(cycle(files), images)
            producer.submit_many(Image(f"{number}", str(path)) for number, path in enumerate(chosen))
            deadline = time.monotonic() + IN_VAIN_SECONDS
            while (progress := producer.progress()).pending and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            worker.terminate()
            _, _, usage = os.wait4(worker.pid, 0)  # with the children that it has waited for
    if progress.pending or progress.error:
        raise click.ClickException(f"not all were classified: {progress}")
    seconds = usage.ru_utime + usage.ru_stime
    click.echo(f"{len(files)} pictures, {images} images: {1000 * seconds / images:.1f} ms of processor time per image,")
    click.echo(f"{images / seconds:.0f} images/s per core, {usage.ru_maxrss / 1024:.0f} MiB resident at most")


if __name__ == "__main__":
    main()
