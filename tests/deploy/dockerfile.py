"""Runs the first stage of a Dockerfile without a container: its RUN and COPY steps, in a folder of their own.

Only the instructions that ours use, and none that is silently skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Its instructions with their arguments; continued lines are joined, comments are gone."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(str.strip, text.splitlines()):
        name, _, arguments = line.partition(" ")
        yield name, arguments.strip()


def replay_first_stage(dockerfile: Path, context: Path, root: Path, environment: Mapping[str, str]) -> None:
    """Do what the first stage does; a path `/x` that it writes becomes `root/x`.

    Raises AssertionError with the output of a step that failed.
    """
    place, variables = root, dict(environment)
    stages = 0
    for name, arguments in instructions(dockerfile):
        if name == "FROM":
            stages += 1
            if stages > 1:
                return
        elif name == "WORKDIR":
            place = root / arguments.lstrip("/")
            place.mkdir(parents=True)
        elif name == "ENV":
            variables |= dict(part.split("=", 1) for part in arguments.split())
        elif name == "COPY":
            _copy(arguments.split(), context, place)
        elif name == "RUN":
            command = arguments.replace("/opt/", f"{root}/opt/")
            done = subprocess.run(["sh", "-ec", command], cwd=place, env=variables, capture_output=True, text=True)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        else:
            raise AssertionError(f"{dockerfile.name} has {name}, which is not replayed")


def _copy(names: list[str], context: Path, place: Path) -> None:
    *sources, target = names
    for source in sources:
        found = context / source
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so")  # as .dockerignore does
            shutil.copytree(found, place / target, ignore=ignored)
        else:
            shutil.copy(found, place / target)


def installed_bytes(folder: Path) -> int:
    """The sum of all files below a folder; what links name is counted where it lies."""
    return sum(
        entry.stat(follow_symlinks=False).st_size
        for parent, _, names in os.walk(folder)
        for entry in (Path(parent) / name for name in names)
    )
