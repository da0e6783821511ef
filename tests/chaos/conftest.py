"""What the tests of storms share."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from chaos.ledger import Options
from chaos.world import make_world

SEED_VARIABLE = "IMAGEQUEUE_CHAOS_SEED"


@pytest.fixture
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """A slice; net and pictures are made once for all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder: Path = base / "chaos"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_world(folder / "world")
    return Options(folder, seed=int(os.environ.get(SEED_VARIABLE, "1")))
