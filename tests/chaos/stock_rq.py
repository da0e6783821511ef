"""RQ's own worker, its clean-up and `rq info` beside ours in a storm; and a fault by which RQ loses a job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from rq import Queue
from rq.registry import clean_registries
from rq.serializers import JSONSerializer

from chaos.arena import Arena
from chaos.audit import COLLECTION
from chaos.fleet import END_SECONDS, program_environment
from chaos.ledger import Ledger, Options, Scale
from chaos.saboteur import all_scripts
from chaos.tcp_proxy import Moment, Strike, TcpProxy, call_of
from imagequeue.connection import connect
from imagequeue.contract import QUEUES, decode_result, results_key

ATTEMPTS_MAX = 10
RQ = Path(sys.executable).with_name("rq")
STRIKE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """How large a storm is."""

    images: int
    kills: int
    losses: int  # times that the fault of `run_comparison` is made


SIZES = {Scale.SLICE: Size(2_000, 8, 2), Scale.FULL: Size(20_000, 100, 20)}


def run(options: Options) -> Ledger:
    """Two workers of ours, one of which is killed again and again, and a stock one; RQ's tools all the time."""
    size = SIZES[options.scale]
    with Arena(options, "stock_rq") as arena, _stock_worker(arena) as stock, _stock_tools(arena) as rounds:
        arena.until(lambda: stock in arena.fleet.ready(), "RQ's worker")
        victim = arena.fleet.start_bare(batch_images=4)
        arena.fleet.start_bare(batch_images=4)
        arena.feed(size.images)
        for number in range(size.kills):
            arena.until_done((number + 1) * size.images // (size.kills + 1))
            arena.fleet.kill(victim)
            arena.count("kills")
            victim = arena.fleet.start_bare(batch_images=4)
        arena.until(arena.drained, "the drain")
        by_stock = _results_of(arena.connection, stock)
        return arena.close_books(
            workers=3,
            attempts_max=ATTEMPTS_MAX,
            figures={"rounds_of_rqs_tools": len(rounds), "results_of_rqs_worker": by_stock},
            violations={"rqs_worker_was_idle": int(not by_stock)},
        )


def _results_of(connection: redis.Redis, pid: int) -> int:
    """How many images a process has classified; its name is host, pid and random."""
    texts = (text for _, text in connection.hscan_iter(results_key(COLLECTION), count=5000))
    return sum(decode_result(text).worker.split(".")[-2:-1] == [str(pid)] for text in texts)


@contextmanager
def _stock_worker(arena: Arena) -> Iterator[int]:
    """The pid of an `rq worker -S json` on our queues; it is not killed: RQ would keep its job for an hour."""
    environment = program_environment(
        IMAGEQUEUE_NET=str(arena.world.net),
        IMAGEQUEUE_IMAGE_ROOT=str(arena.world.pictures),
        IMAGEQUEUE_LEASE_SECONDS="1",
    )
    command = [str(RQ), "worker", "-S", "json", "--worker-class", "rq.worker.SimpleWorker", "--url", arena.server.url]
    with (arena.folder / "stock.log").open("wb") as log:
        worker = subprocess.Popen([*command, *QUEUES], stdout=log, stderr=log, env=environment)
    try:
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait(END_SECONDS)


@contextmanager
def _stock_tools(arena: Arena) -> Iterator[list[int]]:
    """RQ's clean-up of every registry, and `rq info`, over and over; the exit codes of the latter."""
    end, codes = threading.Event(), []

    def loop() -> None:
        with connect(arena.server.url, resend=True) as connection:
            while not end.is_set():
                for name in QUEUES:
                    clean_registries(Queue(name, connection=connection, serializer=JSONSerializer))
                done = subprocess.run(
                    [str(RQ), "info", "--url", arena.server.url], capture_output=True, env=program_environment()
                )
                codes.append(done.returncode)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield codes
    finally:
        end.set()
        thread.join()


# --- the comparison ---------------------------------------------------------------------------------------------


def run_comparison(options: Options) -> Ledger:
    """A worker is killed when Redis has given it a job and it does not know yet: RQ's job is gone for good."""
    times = SIZES[options.scale].losses
    with Arena(options, "stock_rq_loses") as arena, TcpProxy(arena.port) as proxy:
        for script in all_scripts().values():
            arena.connection.script_load(script.text)
        lost = sum(_rq_loses_a_job(arena, proxy) for _ in range(times))
        healthy = arena.fleet.start_bare()  # takes back
        for number in range(times):
            os.kill(healthy, signal.SIGSTOP)
            arena.feed(1, first=number, chunks=(1,)).wait()
            _kill_ours_after_take(arena, proxy)
            os.kill(healthy, signal.SIGCONT)
            arena.until(arena.drained, "the image whose worker was killed")
        arena.count("kills", 2 * times)
        return arena.close_books(
            workers=2, attempts_max=ATTEMPTS_MAX, figures={"jobs_of_stock_rq": times, "lost_by_stock_rq": lost}
        )


def _rq_loses_a_job(arena: Arena, proxy: TcpProxy) -> bool:
    """Whether RQ's job is in no list any more, though it is still said to be queued, and no clean-up brings it back."""
    names = ["stock-a", "stock-b"]
    queues = [Queue(name, connection=arena.connection, serializer=JSONSerializer) for name in names]
    job = queues[1].enqueue("time.sleep", 0)
    worker: list[subprocess.Popen[bytes]] = []
    strike = Strike(b"BLPOP\r\n", Moment.AFTER, lambda: worker[0].kill())
    proxy.strike(strike)
    command = [str(RQ), "worker", "-S", "json", "--worker-class", "rq.worker.SimpleWorker", "--url", proxy.url, *names]
    with (arena.folder / "stock.log").open("ab") as log:
        worker.append(subprocess.Popen(command, stdout=log, stderr=log, env=program_environment()))
    struck = strike.done.wait(STRIKE_SECONDS)
    worker[0].kill()
    worker[0].wait()
    if not struck:
        raise AssertionError(f"RQ's worker did not take the job; see {arena.folder}/stock.log")
    arena.connection.delete("rq:clean_registries:stock-a", "rq:clean_registries:stock-b")
    for queue in queues:
        clean_registries(queue)
    subprocess.run([*command[:-4], arena.server.url, "--burst", *names], capture_output=True, env=program_environment())
    lost = job.get_status(refresh=True) == "queued" and not any(queue.job_ids for queue in queues)
    _forget(arena.connection, names)
    return lost


def _kill_ours_after_take(arena: Arena, proxy: TcpProxy) -> None:
    worker: list[int] = []
    strike = Strike(call_of(all_scripts()["take"].text), Moment.AFTER, lambda: arena.fleet.kill(worker[0]))
    proxy.strike(strike)
    worker.append(arena.fleet.start_bare(url=proxy.url))
    if not strike.done.wait(STRIKE_SECONDS):
        raise AssertionError("our worker did not take the image")


def _forget(connection: redis.Redis, names: list[str]) -> None:
    """RQ's own keys of the comparison are no leftovers of ours."""
    for pattern in [f"rq:*{name}*" for name in names]:
        for key in connection.scan_iter(pattern):
            connection.delete(key)
    for key in connection.scan_iter("rq:job:*"):
        if not key.startswith(b"rq:job:iq-"):
            connection.delete(key)
