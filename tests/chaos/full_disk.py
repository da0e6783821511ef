"""The disk under the append-only file is full: submit raises, workers wait, and all is done when space is back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale, Spread
from imagequeue import Image, Producer
from imagequeue.errors import ImageQueueError

ATTEMPTS_MAX = 10
DISK_MB = 64
WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    workers: int
    times: int


SIZES = {Scale.SLICE: Size(2, 2), Scale.FULL: Size(3, 20)}


class NoSmallDisk(Exception):  # noqa: N818
    """Raised where this user may not mount a small disk."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of DISK_MB megabytes; raises NoSmallDisk."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise NoSmallDisk(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def run(options: Options) -> Ledger:
    """Fill the disk under load, wait until the server notices, and make room."""
    size = SIZES[options.scale]
    recoveries: list[float] = []
    with (
        small_disk(options.folder / f"disk-{time.monotonic_ns()}") as disk,
        Arena(options, "full_disk", data_folder=disk / "redis") as arena,
    ):
        arena.fleet.start_supervised(size.workers)
        arena.feed_without_end()
        for number in range(size.times):
            arena.until_done(arena.done() + 64)
            _fill(disk / "filler")
            _until_refusing(arena)
            arena.count("times_full")
            arena.count("submits_refused" if _is_refused(arena, number) else "submits_accepted")
            time.sleep(0.5)
            (disk / "filler").unlink()
            recoveries.append(arena.seconds_until_next_result())
        arena.stop_feeding()
        violations = {"submits_accepted_when_full": arena.faults.pop("submits_accepted", 0)}
        return arena.close_books(
            workers=size.workers,
            attempts_max=ATTEMPTS_MAX,
            recovery_seconds=Spread.of(recoveries),
            violations=violations,
        )


def _fill(filler: Path) -> None:
    """Leave no byte free."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return


def _until_refusing(arena: Arena) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while arena.connection.info("persistence")["aof_last_write_status"] == "ok":
        if time.monotonic() > deadline:
            raise AssertionError("the server does not notice that its disk is full")
        time.sleep(0.01)


def _is_refused(arena: Arena, number: int) -> bool:
    """Whether submitting raises an error of ours."""
    image = Image(f"refused {number}", arena.world.refs[0])
    try:
        with Producer(arena.server.url, patience=0.2) as producer:
            producer.submit_many([image], collection=COLLECTION, on_full="raise")
    except ImageQueueError:
        return True
    return False
