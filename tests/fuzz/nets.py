"""Damaged nets through `load_net` and, where they load, one picture through every engine: no crash, no other error.

    python tests/fuzz/nets.py [--mutants 100000] [--seed 0] [--processes 2] [--keep folder]

A mutant is refused with a Caffe2Error, or it runs, and then all engines give the same bytes; either way it takes at
most 1 s of processor time and 512 MiB beyond an empty process. Each group of mutants runs in a forked child: when that
dies, the files that it died on are kept.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import click
import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.mutants import Files, mutants, small_nets
from imagequeue_worker.blas import limit_blas_threads
from imagequeue_worker.caffe2 import Caffe2Error, Net, available_engines, load_net

GROUP = 250  # mutants of a child
SECONDS_MAX = 1.0
BYTES_MAX = 512 << 20
BEFORE_ENGINES = ("NetFormatError", "UnsupportedOperator")  # refused by what all engines share
SECONDS_HANGING = 20  # then the child is ended
# Where an address space of 6 GiB ends, an allocation fails: the machine is not filled. Sanitizers need more than any.
ADDRESS_SPACE = None if "asan" in os.environ.get("LD_PRELOAD", "") else 6 << 30


class Report(msgspec.Struct):
    """How the mutants of a group, or of all, ended."""

    ended: dict[str, int] = msgspec.field(default_factory=dict)
    wrong: list[str] = msgspec.field(default_factory=list)
    seconds: float = 0.0  # the slowest
    bytes: int = 0  # most of what a group of them had at once

    def add(self, other: Report) -> None:
        """Join the report of a group."""
        self.ended = dict(Counter(self.ended) + Counter(other.ended))
        self.wrong += other.wrong
        self.seconds, self.bytes = max(self.seconds, other.seconds), max(self.bytes, other.bytes)

    @property
    def mutants(self) -> int:
        """How many ended."""
        return sum(self.ended.values())


def outcome(folder: Path, engine: str) -> tuple[str, bytes]:
    """Load and run: how it ended, and the answer or the error's text."""
    try:
        net = load_net(folder, engine=engine)
        return "ran", run(net)
    except Caffe2Error as error:
        return type(error).__name__, str(error).encode()


def run(net: Net) -> bytes:
    """Run one picture."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *net.input_size, 3), dtype=np.uint8)
    result: bytes = net.run_pixels(pixels)[net.output_name].tobytes()
    return result


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@dataclass
class Judge:
    """Tries mutants in one process."""

    folder: Path
    report: Report = field(default_factory=Report)
    baseline: int = field(default_factory=peak_bytes)

    def try_one(self, name: str, files: Files) -> None:
        """Try one mutant with every engine, and note what is wrong with it."""
        for file, data in zip(("init_net.pb", "predict_net.pb"), files, strict=True):
            (self.folder / file).write_bytes(data)
        outcomes: dict[str, tuple[str, bytes]] = {}
        problems = []
        for engine in reversed(available_engines()):
            if outcomes.get("portable", ("", b""))[0] in BEFORE_ENGINES:
                break
            signal.alarm(SECONDS_HANGING)
            started = time.process_time()
            try:
                outcomes[engine] = outcome(self.folder, engine)
            except Exception as error:
                problems.append(f"{engine}: {error!r}")
            seconds = time.process_time() - started
            self.report.seconds = max(self.report.seconds, seconds)
            if seconds > SECONDS_MAX:
                problems.append(f"{engine}: {seconds:.1f} s")
        if len(set(outcomes.values())) > 1:
            problems.append(f"engines disagree: {[(engine, how) for engine, (how, _) in outcomes.items()]}")
        grown = peak_bytes() - self.baseline
        self.report.bytes = max(self.report.bytes, grown)
        if grown > BYTES_MAX:
            problems.append(f"{grown >> 20} MiB")
            self.baseline += grown
        how = outcomes.get("portable", ("failed", b""))[0]
        self.report.ended[how] = self.report.ended.get(how, 0) + 1
        if problems:
            self.report.wrong.append(f"{name}: {'; '.join(problems)}")
            keep(self.folder, name)


def keep(folder: Path, name: str) -> None:
    """Keep a mutant's files beside the folder in which they were tried."""
    shutil.copytree(folder, folder.parent / f"mutant-{name}", dirs_exist_ok=True)


def group_of(seed: int, number: int, count: int, nets: list[Files]) -> Iterator[tuple[str, Files]]:
    """Make a group of mutants, each with the name under which it is found again."""
    chance = random.Random(f"{seed} {number}")
    for place, files in enumerate(islice(mutants(chance, nets), count)):
        yield f"{seed}-{number}-{place}", files


def fuzz_group(seed: int, number: int, count: int, folder: Path) -> Report:
    """Try a group in a forked child; a child that dies is reported with the mutant it died on."""
    tried = folder / f"group-{number}"
    nets = small_nets(tried)
    answer = tried.parent / f"report-{number}"
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if ADDRESS_SPACE:
                resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
            judge = Judge(tried)
            for name, files in group_of(seed, number, count, nets):
                (tried / "name").write_text(name)
                judge.try_one(name, files)
            answer.write_bytes(msgspec.json.encode(judge.report))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, how = os.waitpid(child, 0)
    if how == 0:
        report = msgspec.json.decode(answer.read_bytes(), type=Report)
    else:
        name = (tried / "name").read_text()
        keep(tried, name)
        end = signal.Signals(os.WTERMSIG(how)).name if os.WIFSIGNALED(how) else f"exit code {os.WEXITSTATUS(how)}"
        report = Report({"crashed": 1}, [f"{name}: the process died, {end}"])
    answer.unlink(missing_ok=True)
    shutil.rmtree(tried)
    return report


def fuzz(seed: int, count: int, folder: Path, processes: int = 1, *, progress: bool = False) -> Report:
    """Try `count` mutants, so many groups at a time; what is wrong is kept in the folder."""
    limit_blas_threads()
    sizes = [min(GROUP, count - first) for first in range(0, count, GROUP)]
    report = Report()
    with ThreadPoolExecutor(processes) as pool:
        groups = pool.map(lambda number: fuzz_group(seed, number, sizes[number], folder), range(len(sizes)))
        for number, group in enumerate(groups, 1):
            report.add(group)
            for line in group.wrong:
                click.echo(line)
            if progress and number % 40 == 0:
                click.echo(f"{report.mutants:,} mutants, {len(report.wrong)} wrong")
    return report


@click.command()
@click.option("--mutants", "count", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--processes", default=2, show_default=True)
@click.option("--keep", "folder", type=click.Path(path_type=Path, file_okay=False), help="Where wrong mutants go.")
def main(count: int, seed: int, processes: int, folder: Path | None) -> None:
    """Fuzz, and say how the mutants ended."""
    started = time.monotonic()
    folder = folder or Path(tempfile.mkdtemp(prefix="imagequeue-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    report = fuzz(seed, count, folder, processes, progress=True)
    click.echo(
        f"{report.mutants:,} mutants, engines {', '.join(available_engines())}, "
        f"{time.monotonic() - started:.0f} s: {report.ended}; slowest {report.seconds:.2f} s, "
        f"most memory {report.bytes >> 20} MiB; {len(report.wrong)} wrong"
    )
    if report.wrong:
        raise click.ClickException(f"{len(report.wrong)} mutants are wrong; they lie in {folder}")


if __name__ == "__main__":
    main()
