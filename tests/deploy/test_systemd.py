"""The units: what systemd itself says about them."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from files import DEPLOY, DRAIN_SECONDS, program

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EXPOSURE_MAX = 20  # of 100; systemd calls up to 29 "OK"


def read_unit(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(path)
    return unit


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    # The program's own place, which is not there, is the only thing that may be amiss.
    name = unit.name.replace("@.", "@4.")
    copy = tmp_path / name
    copy.write_text(unit.read_text().replace("/opt/imagequeue/bin/imagequeue-worker", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if copy.stem.split("@")[0] in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_unit_is_hardened(unit: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_systemd_waits_longer_than_the_worker_needs_to_drain() -> None:
    unit = read_unit(DEPLOY / "systemd" / "imagequeue-worker@.service")
    assert float(unit["Service"]["TimeoutStopSec"]) > DRAIN_SECONDS


def test_one_template_serves_every_core_count() -> None:
    unit = read_unit(DEPLOY / "systemd" / "imagequeue-worker@.service")
    assert re.search(r"imagequeue-worker run --processes %i$", unit["Service"]["ExecStart"])


def test_the_worker_needs_no_memory_that_is_both_written_and_run() -> None:
    """What MemoryDenyWriteExecute refuses, refused by the kernel itself."""
    refuse = "import ctypes, os, sys; refused = ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE\n"
    refuse += "os.execv(sys.argv[1], sys.argv[1:]) if not refused else sys.exit(77)"
    done = subprocess.run(
        [sys.executable, "-c", refuse, sys.executable, "-m", "imagequeue_worker.cli", "info", "--json"],
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "native/scalar" in json.loads(done.stdout)["engines"]
