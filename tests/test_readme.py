"""The README names what there is, and all of it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from prometheus_client import CollectorRegistry

from imagequeue.cli import cli as producer_cli
from imagequeue.contract import ErrorCode
from imagequeue_worker.backlog import Backlog
from imagequeue_worker.cli import main as worker_cli
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.metrics_server import backlog_metrics
from imagequeue_worker.settings import Settings, flag_of, variable_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SOURCES = "\n".join(
    path.read_text()
    for folder in ("producer", "worker", "tests")
    for path in (ROOT / folder).rglob("*.py")
    if path != Path(__file__)
)
CLIS: dict[str, click.Group] = {"imagequeue": producer_cli, "imagequeue-worker": worker_cli}


def commands() -> set[str]:
    return {f"{name} {command}" for name, group in CLIS.items() for command in group.commands}


def flags() -> set[str]:
    return {
        flag
        for group in CLIS.values()
        for command in group.commands.values()
        for parameter in command.params
        for flag in parameter.opts
        if flag.startswith("--")
    } | {"--worker-class"}  # RQ's


def metric_names() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry)
    ours = list(registry.collect()) + list(backlog_metrics(Backlog(0.0, 0.0, [])))
    return {metric.name + ("_total" if metric.type == "counter" else "") for metric in ours}


def test_every_command_is_named_and_exists() -> None:
    named = set(re.findall(r"\b(imagequeue(?:-worker)? [a-z-]+)\b", README)) & (
        commands() | set(re.findall(r"^\| `(imagequeue[a-z -]*)`", README, re.MULTILINE))
    )
    assert named == commands()


def test_every_flag_that_is_named_exists() -> None:
    assert set(re.findall(r"(--[a-z][a-z-]+)", README)) <= flags()


@pytest.mark.parametrize("field", dataclasses.fields(Settings), ids=lambda field: field.name)
def test_every_setting_has_its_row_with_its_default(field: dataclasses.Field[object]) -> None:
    row = re.search(rf"^\| `{flag_of(field)}` \| `{variable_of(field)}` \| (.*?) \|", README, re.MULTILINE)
    assert row is not None
    assert row[1].strip("`") == shown(field.name, field.default)


def shown(name: str, default: object) -> str:
    """A default as the table has it."""
    if isinstance(default, tuple):
        return " ".join(map(str, default)) or ("the zoo's" if name == "nets" else "none")
    if isinstance(default, float):
        return f"{default:g}"
    return "off" if default is False else str(default)


def test_every_variable_that_is_named_is_read() -> None:
    settings = {variable_of(field) for field in dataclasses.fields(Settings)}
    for variable in set(re.findall(r"IMAGEQUEUE_[A-Z_]+", README)):
        built_with = f"if.env.{variable} " in (ROOT / "pyproject.toml").read_text()
        assert variable in settings or built_with or f'"{variable}"' in SOURCES, variable


def test_every_metric_is_named_and_exists() -> None:
    assert set(re.findall(r"`(imagequeue_(?!worker)[a-z_]+)[`{]", README)) == metric_names()


def test_every_error_code_is_explained() -> None:
    table = README[README.index("| code of an `error`") :]
    table = table[: table.index("\n\n")]
    assert set(re.findall(r"`([a-z_]+)`", table)) - {"error", "file"} >= {code.value for code in ErrorCode}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets


def test_every_file_that_is_named_exists() -> None:
    names = set(re.findall(r"`([a-z_/0-9-]+\.(?:py|lua))`", README)) | set(re.findall(r"`([a-z0-9_]+/)`", README))
    for name in names:
        assert any(ROOT.rglob(name.rstrip("/"))), name


def test_the_python_example_runs_as_far_as_redis() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    code = "import os; os.environ['IMAGEQUEUE_REDIS_URL'] = 'redis://127.0.0.1:1/0'\n"
    code += example.replace("Producer()", "Producer(patience=0)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RedisUnavailable" in done.stderr
