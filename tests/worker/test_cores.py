"""One process per core: per core that a container is given."""

import os
from pathlib import Path

import pytest

from imagequeue_worker.cores import usable_cores

MINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", MINE),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("9999999 100000", MINE),
        ("", MINE),
        ("x y", MINE),
    ],
)
def test_the_quota_of_a_cgroup_is_kept(tmp_path: Path, quota: str, cores: int):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", MINE), ("100000", 1)])
def test_the_older_kind_too(tmp_path: Path, quota: str, cores: int):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cores(tmp_path) == cores


def test_a_process_that_is_bound_to_one_core_has_one(tmp_path: Path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
