"""The near end: starts a system's client, asks it for its turns, and reads what the turn cost of the processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagequeue_worker.processor_time import tree_seconds

HERE = Path(__file__).parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class SystemFailedError(RuntimeError):
    """Raised when a system's client ended without an answer; says what it printed last."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A system in the line-up: its file, whose interpreter runs it, and what it is told beside the common setup."""

    name: str
    file: str
    python: Path
    setup: dict[str, Any]

    @property
    def ours(self) -> bool:
        return self.file == "our_system.py"


class Running:
    """A system whose client and workers run; a context manager that ends all of them."""

    def __init__(self, entry: Entry, common: dict[str, Any]) -> None:
        self.entry = entry
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        environment = os.environ | ONE_THREAD | {"PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
        environment["BENCHMARK_SETUP"] = json.dumps(common | entry.setup)
        self._process = subprocess.Popen(
            [str(entry.python), str(HERE / entry.file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, cwd=HERE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it stops its workers, and ends
        self._process.wait()
        self._errors.close()

    def start(self, workers: int, refs: Sequence[str]) -> None:
        """Start the workers and warm them."""
        self._ask(do="start", workers=workers, refs=list(refs))

    def classify(self, refs: Sequence[str]) -> dict[str, Any]:
        """`seconds` until all were done, and `answers`, the best class of each."""
        return self._ask(do="classify", refs=list(refs))

    def idle(self, refs: Sequence[str], pause_seconds: float) -> list[float]:
        """Seconds from submission to result seen, one image at a time."""
        return self._ask(do="idle", refs=list(refs), pause_seconds=pause_seconds)["seconds"]

    def open_loop(self, refs: Sequence[str], rate: float, seed: int) -> list[float]:
        """The same at so many arrivals per second, from the time that each was due."""
        return self._ask(do="open_loop", refs=list(refs), rate=rate, seed=seed)["seconds"]

    def processor_seconds(self) -> float:
        """What client and workers have had so far."""
        return tree_seconds(self._process.pid) or 0.0

    def _ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer says why
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace")[-2000:]
            raise SystemFailedError(f"{self.entry.name} ended: {last}")
        return json.loads(line)


OURS = Entry("imagequeue", "our_system.py", Path(sys.executable), {})


def peers(python: Path, model: Path) -> list[Entry]:
    """All peers; each with the runtime that is faster for its batches on this machine, unless its name says which."""
    forms = json.loads((model / "forms.json").read_text())

    def faster(size: int) -> str:
        return min(("onnxruntime", "openvino"), key=lambda runtime: forms[f"{runtime}-{size}"]["ms"])

    single = {"runtime": faster(1), "batches": False}
    batches = {"runtime": faster(8), "batches": True}
    rq = {"runtime": "onnxruntime", "batches": False, "chunk": 1}
    lineup = [
        ("RQ SimpleWorker, a job per image", "rq_peer.py", rq | {"worker": "simple"}),
        ("RQ Worker, a job per image", "rq_peer.py", rq | {"worker": "fork"}),
        (
            "RQ SimpleWorker, a job per 32 images", "rq_peer.py",
            {"runtime": "openvino", "batches": True, "chunk": 32, "worker": "simple"},
        ),
        ("Celery", "celery_peer.py", single),
        ("dramatiq", "dramatiq_peer.py", single),
        ("mosec", "mosec_peer.py", batches),
        ("LitServe", "litserve_peer.py", batches),
    ]  # fmt: skip
    return [Entry(name, file, python, setup) for name, file, setup in lineup]
