"""Where the deployment files are, how they are read, and what of them belongs together."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from imagequeue_worker.settings import Settings
from imagequeue_worker.supervisor import KILL_AFTER_GRACE_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

_GRACE = next(field for field in dataclasses.fields(Settings) if field.name == "grace").default
DRAIN_SECONDS = float(_GRACE) + KILL_AFTER_GRACE_SECONDS  # type: ignore[arg-type]  # after SIGTERM a worker is gone


def read_yaml(path: Path) -> Any:
    """The one document of a file."""
    return yaml.safe_load(path.read_text())


def program(name: str, package: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package {package} has it)")
    return found
