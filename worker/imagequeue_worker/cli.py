"""The command line of the worker machines: `imagequeue-worker`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imagequeue.errors import ImageQueueError
from imagequeue_worker.blas import limit_blas_threads
from imagequeue_worker.commands.bench import bench
from imagequeue_worker.commands.default_net import default_net
from imagequeue_worker.commands.evaluate import evaluate
from imagequeue_worker.commands.exporter import exporter
from imagequeue_worker.commands.import_tflite import import_tflite
from imagequeue_worker.commands.probe import probe
from imagequeue_worker.commands.quantize import quantize
from imagequeue_worker.errors import WorkerError
from imagequeue_worker.settings import CACHE_VARIABLE, Settings, settings_options

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from imagequeue_worker.nets import Nets

EXIT_SOME_FAILED, EXIT_UNUSABLE, EXIT_INTERRUPTED = 1, 2, 130


class Group(click.Group):
    """Ends every command with one line and a code that means something."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  click's signature
        """Run a command; errors that we raise on purpose become one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except (WorkerError, ImageQueueError) as error:
            raise _Unusable(str(error)) from error
        except click.Abort:
            ctx.exit(EXIT_INTERRUPTED)
        except ModuleNotFoundError as error:
            raise _Unusable(f"{error.name} is not installed; pip install 'imagequeue[worker]'") from error
        except Exception as error:
            if _is_caffe2_error(error):
                raise _Unusable(str(error)) from error
            raise


class _Unusable(click.ClickException):
    exit_code = EXIT_UNUSABLE


def _is_caffe2_error(error: Exception) -> bool:
    """Whether the net's runtime raised it; asked without importing numpy for commands that need none."""
    module = sys.modules.get("imagequeue_worker.caffe2")
    return module is not None and isinstance(error, module.Caffe2Error)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="imagequeue")
def main() -> None:
    """Classify queued images with Int8 Caffe2 nets.

    \b
    A first run, in three terminals:
      imagequeue-worker redis                          a Redis of your own
      imagequeue-worker run --image-root ~/pictures    a worker for it
      imagequeue submit --wait ~/pictures              some work

    Exit codes: 0 done; 1 some images ended in an error; 2 it could not begin (a setting, a net, Redis); 130 Ctrl-C.
    """
    from imagequeue_worker.logs import configure_logging

    limit_blas_threads()
    configure_logging("warning", json=False)  # `run` has settings of its own for this


@main.command()
@settings_options()
def run(**options: Any) -> None:  # noqa: ANN401  the settings
    """Take images from the queues and classify them, until SIGTERM or Ctrl-C.

    Loads the net once, then forks one worker process per core. SIGTERM finishes what is in flight and puts the rest
    back; a second one puts everything back and leaves.
    """
    from imagequeue.connection import connect, redis_errors
    from imagequeue_worker.logs import configure_logging
    from imagequeue_worker.supervisor import Supervisor
    from imagequeue_worker.tracing import require_opentelemetry

    settings = Settings(**options)
    configure_logging(settings.log_level, json=settings.log_json)
    if settings.tracing:
        require_opentelemetry()
    with redis_errors(settings.redis_url), connect(settings.redis_url, resend=False) as connection:
        connection.ping()
    nets = load_nets_with_bar(settings)
    sys.exit(Supervisor(settings, nets).run())


@main.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--top-k", type=click.IntRange(1, 1000), default=5, show_default=True, help="Classes per image")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line instead of a table")
@settings_options("nets", "engine", "decode_threads", "max_image_bytes", "max_pixels", "max_side")
def classify(images: tuple[str, ...], top_k: int, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Classify files and folders here and now, without Redis.

    \b
    imagequeue-worker classify cat.jpg
    imagequeue-worker classify --json ~/pictures > results.jsonl
    find . -name '*.jpg' | imagequeue-worker classify -
    """
    from imagequeue.sources import references
    from imagequeue_worker.commands.classify import report
    from imagequeue_worker.local import classify_references

    settings = Settings(**options)
    nets = load_nets_with_bar(settings)
    refs = list(references(images, sys.stdin.buffer))
    outcomes = classify_references(refs, nets, top_k=top_k, threads=settings.decode_threads, limits=settings.limits)
    failed = report(outcomes, len(refs), as_json=as_json)
    sys.exit(EXIT_SOME_FAILED if failed else 0)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table")
@settings_options("nets", "engine")
def info(as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Show what this machine can run: versions, engines, and the net that a worker would load."""
    from imagequeue_worker.commands.info import gather, table

    settings = Settings(**options)
    found = gather(settings)
    if as_json:
        import json

        click.echo(json.dumps(found))
    else:
        from imagequeue.terminal import print_tables

        print_tables(table(found))


@main.command("fetch-net")
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), envvar=CACHE_VARIABLE, show_envvar=True,
    help="Folder that keeps fetched nets  [default: the user's cache]",
)  # fmt: skip
def fetch_net(cache: Path | None) -> None:
    """Fetch the zoo's quantized MobileNetV2 into the cache, checked against its known checksums."""
    from imagequeue_worker.zoo import fetch_net as fetch

    with _bytes_bar() as progress:
        folder = fetch(cache=cache, progress=progress)
    click.echo(str(folder))


@main.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=6379, show_default=True, help="Port on 127.0.0.1")
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), envvar="IMAGEQUEUE_DATA", show_envvar=True,
    help="Folder that keeps the queue  [default: the user's data folder]",
)  # fmt: skip
@click.option("--durable", is_flag=True, help="Answer only after fsync: slower, and a crash loses nothing accepted")
def redis(port: int, data: Path | None, durable: bool) -> None:
    """Run a Redis of your own on this machine, until Ctrl-C. For a first run; production has a real one."""
    import signal

    import platformdirs

    from imagequeue_worker.embedded_redis import EmbeddedRedis

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = data or platformdirs.user_data_path("imagequeue") / "redis"
    with EmbeddedRedis(folder, port=port, durable=durable) as server:
        click.echo(f"Redis listens at {server.url}; its data is in {folder}; Ctrl-C ends it")
        try:
            while server.pid is not None:
                signal.sigtimedwait([signal.SIGCHLD], 1.0)
        except KeyboardInterrupt:
            return
    raise WorkerError(f"the server has ended; see {server.log}")


@main.command()
@click.option(
    "--images", type=click.Path(path_type=Path, exists=True), help="Picture or folder  [default: scikit-image's]"
)
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds for all pictures")
@settings_options("nets", "engine", "processes")
def demo(images: Path | None, timeout: float, **options: Any) -> None:  # noqa: ANN401
    """Show the whole road: a Redis of its own, a worker, real pictures through the queue, results and metrics."""
    from imagequeue_worker.commands.demo import run_demo
    from imagequeue_worker.zoo import find_nets

    settings = Settings(**options)
    with _bytes_bar() as progress:
        found = find_nets(settings.nets, progress=progress)
    sys.exit(0 if run_demo(found, images, settings, timeout) else EXIT_SOME_FAILED)


@main.command("rq-info", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@settings_options("redis_url")
def rq_info(arguments: tuple[str, ...], redis_url: str) -> None:
    """Run `rq info`, with RQ's own arguments, so that nothing in Redis is unpickled, imported or cleaned up."""
    from imagequeue_worker.commands.rq_tools import rq_info as run_info

    run_info(redis_url, arguments)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@settings_options("redis_url")
def dashboard(arguments: tuple[str, ...], redis_url: str) -> None:
    """Run rq-dashboard, with its own arguments, on 127.0.0.1:9181; nothing in Redis is unpickled or imported.

    Needs `pip install 'imagequeue[dashboard]'`.
    """
    from imagequeue_worker.commands.rq_tools import dashboard as run_dashboard

    run_dashboard(redis_url, arguments)


@main.command("find-net")
@settings_options("nets")
def find_net(**options: Any) -> None:  # noqa: ANN401
    """Print the folder of the net that a worker would load, and why; exit code 2 when there is none."""
    from imagequeue_worker.zoo import find_nets

    with _bytes_bar() as progress:
        found = find_nets(Settings(**options).nets, progress=progress)
    for choice in found.choices:
        click.echo(str(choice))
    click.echo(found.why, err=True)


main.add_command(bench)
main.add_command(evaluate)
main.add_command(exporter)
main.add_command(import_tflite)
main.add_command(probe)
main.add_command(quantize)
main.add_command(default_net)


def load_nets_with_bar(settings: Settings) -> Nets:
    """The nets that the settings name, else a default; with a progress bar where one has to be fetched."""
    from imagequeue_worker.nets import load_found_nets

    with _bytes_bar() as progress:
        return load_found_nets(settings, progress)


@contextmanager
def _bytes_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar for fetched bytes on standard error, shown when there is something to show on a terminal.

    Made with the first bytes: a worker whose net is at hand starts without importing rich's.
    """
    shown: list[Progress] = []
    tasks: dict[str, TaskID] = {}

    def advance(name: str, done: int, total: int) -> None:
        if not shown:
            shown.append(stack.enter_context(_progress_of_bytes()))
        if name not in tasks:
            tasks[name] = shown[0].add_task(name, total=total)
        shown[0].update(tasks[name], completed=done)

    with ExitStack() as stack:
        yield advance


def _progress_of_bytes() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


if __name__ == "__main__":
    main()
