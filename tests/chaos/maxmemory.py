"""The server reaches its maxmemory: submit is refused, workers go on or wait, and all is done when memory is back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.ledger import Ledger, Options, Scale
from chaos.notebook import Notebook
from imagequeue import Image, Producer
from imagequeue.contract import PAUSED_KEY, QUEUES
from imagequeue.errors import QueueFull

ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is. `room_bytes`: what the server may hold beyond what it holds at the beginning."""

    workers: int
    rounds: int
    room_bytes: int


SIZES = {Scale.SLICE: Size(2, 1, 1 << 20), Scale.FULL: Size(3, 10, 4 << 20)}


def run(options: Options) -> Ledger:
    """Fill while the queues are paused; let workers drain the full server, one of them killed; give memory back."""
    size, numbers = SIZES[options.scale], count()
    with (
        Arena(options, "maxmemory") as arena,
        Producer(arena.server.url) as producer,
        Notebook(arena.notebook) as notebook,
    ):
        arena.fleet.start_supervised(size.workers)
        arena.until(lambda: len(arena.fleet.ready()) == size.workers, "the workers")
        for _ in range(size.rounds):
            arena.connection.sadd(PAUSED_KEY, *QUEUES)
            used = arena.connection.info("memory")["used_memory"]
            arena.connection.config_set("maxmemory", used + size.room_bytes)
            _fill(arena, producer, notebook, numbers)
            arena.count("submits_refused")
            pid = next(iter(arena.fleet.ready()))
            arena.connection.delete(PAUSED_KEY)  # needs no memory
            arena.seconds_until_next_result()
            arena.fleet.kill(pid)
            arena.count("kills")
            arena.connection.config_set("maxmemory", 0)
            arena.count("times_full")
            arena.until(arena.drained, "the drain with memory again")
        return arena.close_books(workers=size.workers, attempts_max=ATTEMPTS_MAX)


def _fill(arena: Arena, producer: Producer, notebook: Notebook, numbers: count[int]) -> None:
    """Submit until the server refuses."""
    refs = arena.world.refs
    while True:
        images = [Image(f"{next(numbers):06}", refs[one]) for one in range(16)]
        try:
            producer.submit_many(images, chunk=16, collection=COLLECTION, on_full="raise")
        except QueueFull:
            return
        notebook.note(images)
