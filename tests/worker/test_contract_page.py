"""CONTRACT.md does what it says: its commands run against a live Redis and a real worker, and print what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from imagequeue import Producer, contract
from worker_process import StartWorker, environment

PAGE = Path(__file__).parents[2] / "producer" / "CONTRACT.md"
STEPS = re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
END = "--- end of a step ---"


def pattern(shown: str) -> str:
    """What a shown output stands for: an ellipsis is whatever differs from run to run."""
    return ".*?".join(re.escape(part) for part in shown.split("…"))


def program(folder: Path, name: str, command: list[str]) -> None:
    """A program of this name in a folder that comes first in PATH."""
    file = folder / name
    file.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    file.chmod(0o755)


def real_redis_cli(url: str) -> list[str]:
    found = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if found is None:
        pytest.skip("no redis-cli on this machine: apt-get install redis-tools")
    parts = urlsplit(url)
    return [found, "-s", unquote(parts.path)] if parts.scheme == "unix" else [found, "-u", url]


def test_every_command_of_the_page_has_its_output() -> None:
    assert len(STEPS) == PAGE.read_text().count("```sh\n") >= 4


@pytest.mark.parametrize("client", ["redis-cli", "our few lines of it"])
def test_the_page_submits_a_picture_and_reads_its_result(
    client: str, redis_url: str, start_worker: StartWorker, pictures: list[Path], tmp_path: Path
) -> None:
    small = [sys.executable, str(Path(__file__).with_name("small_redis_cli.py"))]
    program(tmp_path, "redis-cli", real_redis_cli(redis_url) if client == "redis-cli" else small)
    program(tmp_path, "imagequeue", [sys.executable, "-c", "from imagequeue.cli import main; main()"])
    ours = environment()
    ours |= {"PATH": f"{tmp_path}:{ours['PATH']}", "IMAGEQUEUE_REDIS_URL": redis_url, "REF": str(pictures[0])}
    script = "set -eu\n" + "".join(f"{commands}\necho '{END}'\n" for commands, _ in STEPS)
    worker = start_worker()
    done = subprocess.run(["bash", "-c", script], env=ours, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, ""), worker.log_text()
    for (commands, shown), printed in zip(STEPS, done.stdout.split(f"{END}\n")[:-1], strict=True):
        assert re.fullmatch(pattern(shown), printed, re.DOTALL), f"{commands}\nprinted\n{printed}\nnot\n{shown}"
    with Producer(redis_url) as producer:
        ids = [contract.image_id(str(pictures[0])), "cat"]
        by_path, by_bytes = producer.wait(ids, collection="by-hand", timeout=60).values()
    assert by_path.classes == by_bytes.classes[:3]
