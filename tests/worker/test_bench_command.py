"""`imagequeue-worker bench`: a real run, and what it says limits a machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imagequeue_worker.commands.bench import Figures, limit_of
from imagequeue_worker.stages import StageMs
from imagequeue_worker.trial import Trial
from worker_process import run_cli

STAGES = StageMs(read=0.1, decode=1.0, resize=0.1, quantize=0.0, net=1.8)
# 2,000 images in 10 s on two cores that are busy.
TRIAL = Trial(
    images=2000, failed=0, seconds=10.0, worker_cpu_seconds=18.0, redis_cpu_seconds=0.5, client_cpu_seconds=0.5,
    fetch_seconds=0.001,
)  # fmt: skip
BUSY = Figures(stages=STAGES, trial=TRIAL, cores=2, processes=2, load_average=0.1)


def test_bench_prints_rates_stages_and_a_limit(net_folder: Path, pictures: list[Path]) -> None:
    folder = pictures[0].parent
    options = ("--net", net_folder, "--processes", "1", "--batch-images", "4", "--seconds", "1", "--json")
    done = run_cli("bench", "--images", folder / "chelsea.png", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["images"] >= 16
    assert found["failed"] == 0
    assert found["images_per_second"] > 0
    assert {"read", "decode", "resize", "quantize", "net", "client"} <= found["cpu_ms_per_image"].keys()
    assert found["cpu_ms_per_image"]["decode"] > 0
    assert found["limit"]


def test_bench_prints_a_table(net_folder: Path, pictures: list[Path]) -> None:
    options = ("--net", net_folder, "--processes", "1", "--batch-images", "4", "--seconds", "1")
    done = run_cli("bench", "--images", pictures[0], *options)
    assert done.returncode == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == [
        "net", "machine", "processes", "images", "images/s", "cpu ms per image", "limited by",
    ]  # fmt: skip


def test_a_folder_without_pictures_is_one_line_and_exit_code_2(net_folder: Path, tmp_path: Path) -> None:
    done = run_cli("bench", "--net", net_folder, "--images", tmp_path)
    assert done.returncode == 2
    assert "no pictures" in done.stderr or "holds no" in done.stderr


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (BUSY, "the processor: all cores are busy, longest with the queue"),
        (replace(BUSY, stages=replace(STAGES, net=7.0)), "the processor: all cores are busy, longest with the net"),
        (replace(BUSY, trial=replace(TRIAL, redis_cpu_seconds=9.0)), "Redis"),
        (replace(BUSY, trial=replace(TRIAL, client_cpu_seconds=9.0)), "the producer"),
        (replace(BUSY, cores=8), "the number of processes: 2 on 8 cores; raise --processes"),
        (replace(BUSY, trial=replace(TRIAL, worker_cpu_seconds=5.0), load_average=3.0), "other programs"),
        (replace(BUSY, trial=replace(TRIAL, worker_cpu_seconds=5.0, fetch_seconds=0.1)), "reading"),
        (replace(BUSY, trial=replace(TRIAL, worker_cpu_seconds=5.0)), "waiting"),
        (replace(BUSY, trial=replace(TRIAL, worker_cpu_seconds=None)), "not known"),
    ],
)
def test_the_limit_is_what_is_busy(figures: Figures, said: str) -> None:
    assert limit_of(figures).startswith(said)
