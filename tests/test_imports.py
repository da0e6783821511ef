"""Imports point one way, and light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    "imagequeue": ROOT / "producer" / "imagequeue",
    "imagequeue_worker": ROOT / "worker" / "imagequeue_worker",
}

# Further left may import further right, never back (DESIGN.md section 3).
CHAIN = (
    "cli",
    "demo",
    "supervisor",
    "tasks",
    "batch_worker",
    "batch_loop",
    "pipeline",
    "nets",
    "references",
    "images",
    "caffe2",
)


def modules() -> dict[str, Path]:
    """Every module of both packages, by its dotted name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found[name] = path
    return found


def imports_of(name: str, path: Path) -> set[str]:
    """The modules that a file imports, wherever in it; relative ones made absolute."""
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = base[: len(base) - node.level + 1] if node.level else []
            module = ".".join([*prefix, *(node.module or "").split(".")]).strip(".")
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


MODULES = modules()
THUMBNAILS = "imagequeue.reports.thumbnails"
IMPORTER = "imagequeue_worker.caffe2.quantize.importer"


def rank(module: str) -> int | None:
    """A worker module's place in the chain; None where it is not on it."""
    parts = module.split(".")
    return CHAIN.index(parts[1]) if parts[0] == "imagequeue_worker" and len(parts) > 1 and parts[1] in CHAIN else None


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] == "imagequeue"])
def test_producer_never_imports_the_worker_or_its_packages(name: str) -> None:
    forbidden = {"imagequeue_worker", "numpy", "PIL", "torch", "simplejpeg", "prometheus_client"}
    # Small pictures for reports: an extra, imported where it is used.
    forbidden -= {"PIL"} if name == THUMBNAILS else set()
    assert {module.split(".")[0] for module in imports_of(name, MODULES[name])} & forbidden == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("imagequeue_worker.caffe2")])
def test_caffe2_knows_nothing_of_the_rest(name: str) -> None:
    ours = {
        module for module in imports_of(name, MODULES[name]) if module.startswith(("imagequeue.", "imagequeue_worker"))
    }
    assert {module for module in ours if not module.startswith("imagequeue_worker.caffe2")} - {
        "imagequeue_worker"
    } == set()
    foreign = {module.split(".")[0] for module in imports_of(name, MODULES[name])}
    # Float models are PyTorch's: the one file that reads them imports it, and only when it is called.
    forbidden = {"redis", "rq", "prometheus_client", "imagequeue"} | ({"torch"} if name != IMPORTER else set())
    assert foreign & forbidden == set()


@pytest.mark.parametrize("name", [name for name in MODULES if rank(name) is not None])
def test_worker_imports_point_one_way(name: str) -> None:
    mine = rank(name)
    back = {
        module for module in imports_of(name, MODULES[name]) if (other := rank(module)) is not None and other < mine
    }
    assert back == set()


def test_importing_imagequeue_loads_neither_rq_nor_the_command_line() -> None:
    code = (
        "import imagequeue, sys; print(*[m for m in ('rq','rich','click','numpy','PIL','torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_worker_never_loads_torch() -> None:
    code = "import sys, imagequeue_worker.supervisor, imagequeue_worker.tasks, imagequeue_worker.cli as _; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
