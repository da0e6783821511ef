"""The Python of README's "Use it" runs, against a real Redis, with a worker that classifies real pictures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from programs import environment_without_settings

README = (Path(__file__).parents[1] / "README.md").read_text()
SECTION = re.search(r"^## Use it\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"```python\n(.*?)```", SECTION[1] if SECTION else "", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Path]) -> Path:
    """What README calls /data."""
    for name, picture in zip(("cat.jpg", "dog.jpg"), (pictures[1], pictures[2]), strict=True):
        shutil.copy(picture, tmp_path / name)
    return tmp_path


@pytest.fixture
def worker(redis_url: str, connection: redis.Redis, net_folder: Path, folder: Path) -> Iterator[dict[str, str]]:
    """A worker that may read the folder; the environment that producers need."""
    environment = environment_without_settings() | {"IMAGEQUEUE_REDIS_URL": redis_url}
    command = [sys.executable, "-c", "from imagequeue_worker.cli import main; main()", "run", "--metrics-port", "0"]
    command += ["--net", str(net_folder), "--image-root", str(folder), "--processes", "1"]
    with subprocess.Popen(command, env=environment) as process:
        yield environment
        process.terminate()


def test_both_producers_have_an_example() -> None:
    assert [bool(re.search(r"\bAsyncProducer\(\)", example)) for example in EXAMPLES] == [False, True]


@pytest.mark.parametrize("example", EXAMPLES, ids=["threads", "asyncio"])
def test_the_example_runs(example: str, worker: dict[str, str], folder: Path) -> None:
    code = example.replace("/data/", f"{folder}/")
    done = subprocess.run([sys.executable, "-c", code], env=worker, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "asyncio" in code:
        assert re.fullmatch(r"ok next one in (None|[\d.e-]+) s\ncat \d+-\d+\n", done.stdout)
    else:
        assert sorted(line.split()[0] for line in done.stdout.splitlines()) == [
            f"{folder}/{n}.jpg" for n in ("cat", "dog")
        ]
