"""The near end: starts a contender's process on this process's core and asks it for its turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from turns import Array

HERE = Path(__file__).parent
WORKER = HERE.parents[2] / "worker"
PEERS = ("onnxruntime_peer.py", "openvino_peer.py")


class ContenderFailedError(RuntimeError):
    """Raised when a contender's process ended without an answer; says what it printed last."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn measured: milliseconds per image of each call, and processor time per image."""

    wall_ms: tuple[float, ...]
    cpu_ms: float

    @property
    def median_ms(self) -> float:
        return statistics.median(self.wall_ms)


@dataclass
class Contender:
    """One runtime in its process."""

    command: list[str]
    ours: bool
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "PYTHONPATH": str(WORKER)}
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environment, text=True
        )
        self.about = self._answer()

    @property
    def name(self) -> str:
        return str(self.about["name"])

    def prepare(self, batch: int) -> dict[str, Any]:
        """Get ready for a batch size; how it will run."""
        return self._ask(do="prepare", batch=batch)

    def turn(self, batch: int, seconds: float) -> Turn:
        """Run for so long."""
        answer = self._ask(do="turn", batch=batch, seconds=seconds)
        return Turn(tuple(value / batch for value in answer["wall_ms"]), answer["cpu_ms"] / batch)

    def classify(self, batch: int) -> Array:
        """The probabilities of all pictures, run in batches of this size."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "probabilities.npy"
            self._ask(do="classify", batch=batch, out=str(out))
            return np.load(out)

    def close(self) -> None:
        """End the process: its standard input ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise ContenderFailedError(f"{' '.join(self.command)} ended: {self.errors.read().decode()[-2000:]}")
        return json.loads(line)


def our_contender(net: Path, pictures: Path, engine: str) -> Contender:
    """One of our engines."""
    return Contender([sys.executable, str(HERE / "our_engine.py"), str(net), str(pictures), engine], ours=True)


def peer_contenders(net: Path, pictures: Path, python: Path) -> Iterator[Contender]:
    """All peers, run by the interpreter of their own environment."""
    for peer in PEERS:
        yield Contender([str(python), str(HERE / peer), str(net), str(pictures)], ours=False)
