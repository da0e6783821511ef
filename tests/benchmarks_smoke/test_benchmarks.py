"""Each benchmark's smallest form: it runs, its answers are checked, and its JSON has what it says. Nothing is timed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests/benchmarks"
PEERS = ROOT / ".venv-peers"

pytestmark = pytest.mark.timeout(600)  # of the deadlock, not of the benchmark
with_peers = pytest.mark.skipif(not (PEERS / "ready").exists(), reason="`make bench-peers` installs the peers")


def run(name: str, *options: str | Path) -> dict[str, Any]:
    """The benchmark's JSON."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, options), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def data(net_folder: Path, pictures: list[Path], tmp_path: Path) -> tuple[str, ...]:
    """Which net and which pictures: the small ones, as photographs of scikit-image's folder."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for picture in pictures:
        shutil.copy(picture, folder)
    return ("--net", str(net_folder), "--images", str(folder))


def test_system_classifies_all_images_and_all_are_right(data: tuple[str, ...]) -> None:
    (ours,) = run("system", *data, "--count", "12", "--rounds", "1", "--workers", "1")["systems"]
    assert ours["best class is ours"] == "12 of 12"
    assert ours["images/s"] > 0
    assert ours["cpu ms per image"] > 0


@with_peers
def test_every_peer_answers(data: tuple[str, ...]) -> None:
    # A synthetic net's best classes hang on single roundings, so none has to agree here; on a real net 80 % have to.
    options = ("--count", "12", "--rounds", "1", "--workers", "1", "--peers", "--agreeing-least", "0")
    ours, *theirs = run("system", *data, *options)["systems"]
    assert ours["best class is ours"] == "12 of 12"
    assert [row["system"] for row in theirs] == [
        "RQ SimpleWorker, a job per image", "RQ Worker, a job per image", "RQ SimpleWorker, a job per 32 images",
        "Celery", "dramatiq", "mosec", "LitServe",
    ]  # fmt: skip
    assert all(row["images/s"] > 0 and row["ours over it"] > 0 for row in theirs)


def test_latency_has_every_load(data: tuple[str, ...]) -> None:
    rows = run("latency", *data, "--count", "8", "--rounds", "1", "--workers", "1")["latencies"]
    assert [row["load"] for row in rows] == ["idle", "50%", "90%"]
    assert all(0 < row["p50 ms"] <= row["p99 ms"] <= row["p99.9 ms"] for row in rows)


def test_stages_have_their_share_and_redis_its_counts(data: tuple[str, ...]) -> None:
    found = run("stages", *data, "--count", "40", "--rounds", "1")
    assert {row["stage"] for row in found["stages"]} == {
        "read",
        "decode",
        "resize",
        "quantize",
        "net",
        "queue, worker's",
    }
    assert found["sum_of_stages_over_worker_cpu"] > 0
    chunks, single, _ = found["queue"]
    assert single["commands"] > chunks["commands"] > 0


def test_soak_samples_everything() -> None:
    found = run("soak", "--images", "600", "--samples", "3", "--settle-seconds", "0")
    assert [sample["images"] for sample in found["samples"]] == [200, 400, 600]
    assert all(sample["rss_mib"] > 0 and sample["fds"] > 0 and sample["p99_ms"] > 0 for sample in found["samples"])
    assert {"rss_mib", "fds", "threads", "redis_keys", "redis_mib", "p99_ms"} <= found["growth_percent"].keys()


def test_curves_draw_a_picture(data: tuple[str, ...], tmp_path: Path) -> None:
    options = ("--curve", "threads", "--curve", "load", "--count", "12", "--rounds", "1", "--workers", "1")
    curves = run("curves", *data, *options, "--out", tmp_path)["curves"]
    assert {name: len(rows) for name, rows in curves.items()} == {"threads": 4, "load": 5}
    assert [row["p50 ms"] <= row["p90 ms"] <= row["p99 ms"] for row in curves["load"]] == [True] * 5
    for name, points in {"threads": 4, "load": 3 * 5}.items():
        picture = ElementTree.parse(tmp_path / f"{name}.svg")
        assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == points


def test_the_queue_alone_is_compared_with_rq() -> None:
    rows = run("queue_rate", "--jobs", "200", "--rounds", "1")["workers"]
    assert rows[0]["worker"] == "RQ SimpleWorker"
    assert all(row["images/s"] > 0 for row in rows)


@with_peers
def test_the_queue_alone_is_compared_with_other_queues() -> None:
    names = [row["worker"] for row in run("queue_rate", "--jobs", "200", "--rounds", "1", "--peers")["workers"]]
    assert "saq, concurrency 64" in names
    assert ("BullMQ, concurrency 256" in names) == bool(shutil.which("node") and (PEERS / "node_modules").exists())
