"""An ingestion that is killed again and again, and started again: the ledger of its images."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from imagequeue import Status, contract
from imagequeue.journal import read_results

TESTS = Path(__file__).parents[1]
IMAGES = 4_000
KILLS = 8
INGEST = [sys.executable, "-c", "from imagequeue.cli import main; main()", "ingest"]


@pytest.fixture
def worker(redis_url: str, connection: redis.Redis, program_environment: dict[str, str]) -> Iterator[None]:
    """A worker that is not much faster than the killer."""
    command = [sys.executable, str(TESTS / "nothing_worker.py"), redis_url, "--images-per-second", "1500"]
    process = subprocess.Popen(command, env=program_environment)
    yield
    process.terminate()
    assert process.wait(60) == 0


def settled(connection: redis.Redis) -> int:
    """Images with a result."""
    return int(connection.hget(contract.totals_key("ledger"), "ok") or 0)


def wait_for(connection: redis.Redis, images: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while settled(connection) < images and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("form", ["list.txt", "folder"])
def test_every_image_has_one_row_and_one_result_however_often_it_is_killed(
    form: str,
    redis_url: str,
    connection: redis.Redis,
    worker: None,
    tmp_path: Path,
    program_environment: dict[str, str],
) -> None:
    source = tmp_path / form
    if form == "folder":
        for number in range(IMAGES):
            (source / f"{number % 7}").mkdir(parents=True, exist_ok=True)
            (source / f"{number % 7}" / f"{number}.jpg").touch()
    else:
        source.write_text("".join(f"/pictures/{number}.jpg\n" for number in range(IMAGES)))
    journal = tmp_path / "journal.sqlite"
    command = [*INGEST, str(source), "--run", "ledger", "--journal", str(journal), "--redis-url", redis_url]
    command += ["--limit-in-flight", "400"]
    rng = random.Random(form)
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(command, env=program_environment, stderr=subprocess.PIPE, text=True)
        wait_for(connection, settled(connection) + rng.randrange(1, IMAGES // KILLS), process)
        time.sleep(rng.random() / 20)  # anywhere within a step
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed > KILLS // 2  # or the images have been too few
    done = subprocess.run(command, env=program_environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, f"{IMAGES} ok, 0 errors in ledger\n"), done.stderr
    results = list(read_results(journal))
    assert Counter(result.status for result in results) == {Status.OK: IMAGES}
    assert len({result.id for result in results}) == IMAGES
    with sqlite3.connect(journal) as rows:
        assert (
            rows.execute("SELECT count(*), count(DISTINCT id), count(status) FROM images").fetchone() == (IMAGES,) * 3
        )
    totals = {name.decode(): int(count) for name, count in connection.hgetall(contract.totals_key("ledger")).items()}
    assert totals == {"accepted": IMAGES, "ok": IMAGES}  # nothing was submitted again after it was done
