"""`imagequeue-worker rq-info` and `dashboard`: RQ's tools tell of our workers, and obey nothing that is in Redis."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from imagequeue import Producer
from imagequeue.contract import job_key
from ports import free_port
from worker_process import StartWorker, environment, run_cli, until


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self._folder,)


@contextmanager
def a_job_is_held(start_worker: StartWorker, producer: Producer, pictures: list[Path], gate: Path) -> Iterator[str]:
    """A worker is at a job, whose id this is."""
    job = producer.submit(f"fault:gate:{gate}:{pictures[0]}", id="held").job
    worker = start_worker()
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    (known,) = worker.connection.smembers("rq:workers")
    until(lambda: worker.connection.hget(known, "state") == b"busy", worker)
    yield str(job)
    gate.touch()
    producer.wait(["held"], timeout=60)


def test_rq_info_tells_of_our_workers_and_jobs(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], redis_url: str, tmp_path: Path
) -> None:
    with a_job_is_held(start_worker, producer, pictures, tmp_path / "gate"):
        done = run_cli("rq-info", "--redis-url", redis_url, "--raw")
    assert done.returncode == 0, done.stderr
    assert "queue classify 0, 1 executing" in " ".join(done.stdout.split())
    assert " busy" in done.stdout


def test_rq_info_unpickles_and_imports_nothing_and_takes_no_job_away(
    start_worker: StartWorker, producer: Producer, connection: redis.Redis, pictures: list[Path], redis_url: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    proof = tmp_path / "proof"
    with a_job_is_held(start_worker, producer, pictures, tmp_path / "gate") as job:
        mapping = {"meta": pickle.dumps(Bomb(proof)), "failure_callback_name": "os.abort"}
        connection.hset(job_key(job), mapping=mapping)
        # As RQ's clean-up sees the lease of a worker that was silent for too long.
        (member,) = connection.zrange("rq:wip:classify", 0, -1)
        connection.zadd("rq:wip:classify", {member: 1})
        done = run_cli("rq-info", "--redis-url", redis_url)
        assert connection.hget(job_key(job), "status") != b"failed"
    assert done.returncode == 0, done.stderr
    assert not proof.exists()


def test_rq_info_without_redis_is_one_line() -> None:
    done = run_cli("rq-info", "--redis-url", "redis://127.0.0.1:1/0")
    assert done.returncode != 0
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture
def dashboard(redis_url: str, tmp_path: Path) -> Iterator[str]:
    """The dashboard's address."""
    pytest.importorskip("rq_dashboard", reason="needs the extra `dashboard`")
    port = free_port()
    command = [sys.executable, "-m", "imagequeue_worker.cli", "dashboard", "--port", str(port)]
    log = tmp_path / "dashboard.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*command, "--redis-url", redis_url], stdout=out, stderr=out, env=environment())
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or answers(address))
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return get(address) != ""
    except (urllib.error.URLError, ConnectionError):
        return False


def get(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def test_every_page_of_the_dashboard_shows_a_job_that_is_held(
    dashboard: str, start_worker: StartWorker, producer: Producer, pictures: list[Path], tmp_path: Path
) -> None:
    with a_job_is_held(start_worker, producer, pictures, tmp_path / "gate") as job:
        assert "classify" in get(f"{dashboard}/0/data/queues.json")
        assert "busy" in get(f"{dashboard}/0/data/workers.json")
        assert '"status":"started"' in get(f"{dashboard}/0/data/job/{job}.json")


def test_the_dashboard_unpickles_nothing(
    dashboard: str, producer: Producer, connection: redis.Redis, tmp_path: Path
) -> None:
    proof = tmp_path / "proof"
    job = str(producer.submit("/x.jpg", id="x").job)
    connection.hset(job_key(job), mapping={"meta": pickle.dumps(Bomb(proof)), "data": pickle.dumps(Bomb(proof))})
    for page in (f"job/{job}", "queues", "workers", "jobs/classify/queued/8/asc/1"):
        with suppress(urllib.error.HTTPError):  # a page may say that it cannot be read
            get(f"{dashboard}/0/data/{page}.json")
    assert not proof.exists()


def test_without_rq_dashboard_the_remedy_is_named() -> None:
    code = "import sys; sys.modules['rq_dashboard'] = None; sys.argv[1:] = ['dashboard']; "
    code += "from imagequeue_worker.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 2
    assert "pip install 'imagequeue[dashboard]'" in done.stderr
