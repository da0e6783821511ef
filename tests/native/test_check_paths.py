"""Every path gives the scalar path's bytes, compared in C++: on this processor, and NEON's under qemu."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NATIVE = TESTS.parents[1] / "worker" / "native"

pytestmark = pytest.mark.timeout(900)  # each compiles the whole library: a minute on an idle machine


def output_of(*command: str | Path) -> str:
    """What a command prints; fails with all of it unless the command succeeds."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


def test_every_path_of_this_processor_gives_the_scalar_bytes(tmp_path: Path) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None or shutil.which("cmake") is None:
        pytest.skip("no C++ compiler or no cmake")
    output_of("cmake", "-S", NATIVE, "-B", tmp_path)
    output_of("cmake", "--build", tmp_path, "--parallel", "2", "--target", "check_paths")
    result = subprocess.run([tmp_path / "check_paths"], capture_output=True, text=True, check=False)
    if result.returncode == 2:
        pytest.skip(f"this processor has the scalar path only: {platform.processor() or platform.machine()}")
    assert result.returncode == 0, result.stdout
    assert result.stdout.endswith(" 0 differing\n")


def test_neon_gives_the_scalar_bytes_under_qemu(tmp_path: Path) -> None:
    printed = output_of(TESTS / "neon.sh", tmp_path)
    if printed.startswith("skipped"):
        pytest.skip(printed.strip())
    assert printed.endswith(" 0 differing\n")
