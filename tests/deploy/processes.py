"""Programs that tests of the deployment start: ours and others', and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from programs import PATIENCE_SECONDS, environment_without_settings

BIN = Path(sys.executable).parent


def environment(**more: str) -> dict[str, str]:
    """Ours without settings that a developer's shell may have; our commands are found first."""
    ours = environment_without_settings()
    return ours | {"PATH": f"{BIN}{os.pathsep}{ours.get('PATH', '')}"} | more


@contextmanager
def running(command: Sequence[str | Path], log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and end it with the block: SIGTERM, SIGKILL if that takes long."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment(**settings), cwd=log.parent)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        process.kill()
        process.wait()


def run(*command: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(**settings), timeout=PATIENCE_SECONDS
    )
