"""Power cuts: the append-only file is cut where it was synced at a durable submit's answer, or anywhere later.

A kill of the server proves nothing about syncing, since the kernel keeps what was written. So a library in front of the
server notes the file's size at each fdatasync, and the file is cut there, loaded by another server, and looked through.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale
from chaos.notebook import Notebook
from chaos.preload import compile_shim
from chaos.servers import start_and_load
from imagequeue import Image, Producer
from imagequeue.connection import connect
from imagequeue.contract import pending_key, results_key
from imagequeue_worker.embedded_redis import EmbeddedRedis

ATTEMPTS_MAX = 10
INCREMENT = "appendonlydir/appendonly.aof.1.incr.aof"


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    submits: int
    cuts: int


SIZES = {Scale.SLICE: Size(40, 20), Scale.FULL: Size(400, 200)}


@dataclass(frozen=True, slots=True)
class Answered:
    """A durable submit that was answered: the ids accepted so far, and the size that was on the disk by then."""

    ids: frozenset[str]
    synced_bytes: int


class NoCompiler(Exception):  # noqa: N818
    """Raised where the library that watches fdatasync cannot be compiled."""


def run(options: Options) -> Ledger:
    """Submit durably while a worker classifies; then cut copies of the file and load them."""
    size, rng = SIZES[options.scale], random.Random(options.seed)
    library = compile_shim("fdatasync", options.folder / "shims")
    if library is None:
        raise NoCompiler("no C compiler: what the server syncs cannot be seen")
    log = options.folder / f"syncs-{time.monotonic_ns()}"
    with _environment({"LD_PRELOAD": str(library), "CHAOS_SYNC_LOG": str(log)}):
        arena = Arena(options, "aof_cuts", durable=True)
        arena.server.start()
    with arena:
        arena.fleet.start_bare(batch_images=4)
        answered = _submit(arena, size.submits, log)
        arena.until(arena.drained, "the drain")
        arena.count("durable_submits", len(answered))
        missing = too_early = 0
        whole = (arena.server.folder / INCREMENT).stat().st_size
        for _ in range(size.cuts):
            one = rng.choice(answered)
            cut = one.synced_bytes if rng.random() < 0.5 else rng.randint(one.synced_bytes, whole)
            missing += len(one.ids - _present_after_cut(arena, cut))
            arena.count("cuts")
        # The proof that this test can fail: a cut before the first answer loses what was answered later.
        too_early = len(answered[-1].ids - _present_after_cut(arena, answered[0].synced_bytes // 2))
        return arena.close_books(
            workers=1,
            attempts_max=ATTEMPTS_MAX,
            violations={"durable_ids_missing_after_a_cut": missing, "early_cut_loses_nothing": int(not too_early)},
            figures={"ids_lost_by_a_cut_before_the_sync": too_early},
        )


def _submit(arena: Arena, submits: int, log: Path) -> list[Answered]:
    """Submit durably, and note at each answer how much of the file was synced."""
    answered: list[Answered] = []
    ids: set[str] = set()
    refs = arena.world.refs
    with Producer(arena.server.url) as producer, Notebook(arena.notebook) as notebook:
        for number in range(submits):
            images = [Image(f"{number}.{one}", refs[(number + one) % len(refs)]) for one in range(1 + number % 3)]
            producer.submit_many(images, collection=COLLECTION, durable=True)
            synced = _synced_bytes(log)
            notebook.note(images)
            ids |= {image.id for image in images}
            answered.append(Answered(frozenset(ids), synced))
    return answered


def _synced_bytes(log: Path) -> int:
    """The size of the append-only file at its last sync."""
    for line in reversed(log.read_text().splitlines()):
        path, _, size = line.rpartition(" ")
        if path.endswith(INCREMENT):
            return int(size)
    raise AssertionError("the server has synced nothing, or the library does not see it")


def _present_after_cut(arena: Arena, size: int) -> set[str]:
    """The ids that a server knows whose append-only file ends after so many bytes."""
    folder = arena.folder / "cut"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(arena.server.folder / "appendonlydir", folder / "appendonlydir")
    os.truncate(folder / INCREMENT, size)
    server = EmbeddedRedis(folder)
    with server, connect(server.url, resend=True) as client:
        start_and_load(server)
        ids = [*client.hkeys(pending_key(COLLECTION)), *client.hkeys(results_key(COLLECTION))]
        return {id_.decode() for id_ in ids}


@contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started meanwhile have these variables, too."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
