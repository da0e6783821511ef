"""Mutated image files through the decoders, for as long as wanted: no crash, nothing but pictures and ImageErrors.

    python tests/fuzz/images.py [--mutants 100000] [--seed 0] [--processes 2]

Every process writes the mutant that it is about to decode into a file first; when a process dies, that file is what it
died on, and it is kept.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "worker" / "images"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.damage import KINDS, damage

LIMIT_PIXELS = 2_000_000  # headers may promise any size; what is fuzzed is not the memory


def mutants(chance: random.Random, count: int) -> Iterator[bytes]:
    """Changed files: bits, bytes, lengths, pieces that are cut out, doubled, moved or taken from another file."""
    from bad_files import corpus

    files = [file.data for file in corpus() if 0 < len(file.data) < 200_000]
    interesting = [
        b"\x00",
        b"\xff",
        b"\x7f",
        b"\x80",
        b"\xff\xff",
        b"\x00\x00",
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
    ]
    for _ in range(count):
        data = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            if not data:
                break
            # Headers are where decoders take decisions: half of the changes meet the first 200 bytes.
            place = chance.randrange(min(len(data), 200) if chance.random() < 0.5 else len(data))
            damage(chance, data, place, chance.randrange(KINDS), interesting, lambda: chance.choice(files))
        yield bytes(data)


def fuzz(seed: int, count: int, last: Path | None = None) -> Counter[str]:
    """Decode that many mutants; how many ended how. Raises whatever is no ImageError."""
    from imagequeue_worker.errors import ImageError
    from imagequeue_worker.images import Limits, preprocess

    warnings.simplefilter("ignore")
    limits = Limits(pixels_max=LIMIT_PIXELS)
    ended: Counter[str] = Counter()
    for number, data in enumerate(mutants(random.Random(seed), count)):
        if last is not None:
            last.write_bytes(data)
        try:
            pixels = preprocess(data, limits=limits)
        except ImageError as error:
            ended[error.code.value] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, mutant {number}: {error!r}") from error
        else:
            if pixels.shape != (224, 224, 3) or pixels.dtype.name != "uint8":
                raise AssertionError(f"seed {seed}, mutant {number}: {pixels.dtype} {pixels.shape}")
            ended["ok"] += 1
    return ended


def _work(seed: int, count: int, last: Path, answers: multiprocessing.SimpleQueue[Counter[str]]) -> None:
    answers.put(fuzz(seed, count, last))


@click.command()
@click.option("--mutants", "count", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--processes", default=2, show_default=True)
def main(count: int, seed: int, processes: int) -> None:
    """Fuzz, and say how the mutants ended."""
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="imagequeue-fuzz-"))
    answers: multiprocessing.SimpleQueue[Counter[str]] = multiprocessing.SimpleQueue()
    children = [
        multiprocessing.Process(
            target=_work, args=(seed + number, count // processes, folder / f"last-{seed + number}", answers)
        )
        for number in range(processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    ended: Counter[str] = Counter()
    while not answers.empty():
        ended += answers.get()
    died = [child.exitcode for child in children if child.exitcode]
    click.echo(
        f"{ended.total()} mutants in {time.monotonic() - started:.0f} s: {dict(ended)}; {len(died)} processes died"
    )
    if died:
        raise click.ClickException(f"exit codes {died}; what they died on lies in {folder}")


if __name__ == "__main__":
    main()
