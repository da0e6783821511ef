"""The README names what there is, and all of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
import pytest
import redis
from prometheus_client import CollectorRegistry

from imagequeue.cli import cli as producer_cli
from imagequeue.contract import ErrorCode
from imagequeue_worker.cli import main as worker_cli
from imagequeue_worker.exporter_metrics import ExporterCollector
from imagequeue_worker.metrics import Metrics, SupervisorMetrics
from imagequeue_worker.metrics_server import ProcessesCollector
from imagequeue_worker.settings import Settings, flag_of, variable_of
from imagequeue_worker.vitals import VitalsBoard

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


def metric_names(connection: redis.Redis) -> set[str]:
    """What every page shows; the fleet's metrics stand on the exporter's, too."""
    makers = (Metrics, SupervisorMetrics)
    registries = [CollectorRegistry() for _ in makers]
    for maker, registry in zip(makers, registries, strict=True):
        maker(registry)
    others = (ProcessesCollector(VitalsBoard(1)), ExporterCollector(connection, collections_max=1))
    ours = [metric for collector in (*registries, *others) for metric in collector.collect()]
    return {metric.name + ("_total" if metric.type == "counter" else "") for metric in ours}


def test_every_command_is_named_and_exists() -> None:
    named = set(re.findall(r"\b(imagequeue(?:-worker)? [a-z-]+)\b", README)) & (
        commands() | set(re.findall(r"^\| `(imagequeue[a-z -]*)`", README, re.MULTILINE))
    )
    assert named == commands()


FLAG = re.compile(r"(--[a-z][a-z-]+)")
BENCHMARK = re.compile(r"`python (tests/benchmarks/\w+\.py)([^`]*)`")


def test_every_flag_that_is_named_exists() -> None:
    assert set(FLAG.findall(BENCHMARK.sub("", README))) <= flags()


@pytest.mark.parametrize(("file", "arguments"), sorted(set(BENCHMARK.findall(README))))
def test_every_flag_of_a_benchmark_exists(file: str, arguments: str) -> None:
    source = (ROOT / file).read_text()
    assert [flag for flag in FLAG.findall(arguments) if f'"{flag}"' not in source] == []


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


def test_every_metric_is_named_and_exists(connection: redis.Redis) -> None:
    named = set(re.findall(r"`(imagequeue_(?!worker)[a-z_]+|rq_[a-z_]+)[`{]", README))
    assert named == metric_names(connection)


def test_every_error_code_is_explained() -> None:
    table = README[README.index("| code of an `error`") :]
    table = table[: table.index("\n\n")]
    assert set(re.findall(r"`([a-z_]+)`", table)) - {"error", "file"} >= {code.value for code in ErrorCode}


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_every_file_that_is_named_exists() -> None:
    ours = [path for folder in ("producer", "worker", "tests", "deploy") for path in (ROOT / folder).rglob("*")]
    endings = tuple(f"/{path.relative_to(ROOT)}" for path in ours)
    names = set(re.findall(r"`([a-z_/0-9-]+\.(?:py|lua))`", README)) | set(re.findall(r"`([a-z0-9_]+)/`", README))
    names |= set(re.findall(r"\b((?:producer|tests|deploy)/[\w./-]*\w)", README)) - {"deploy/secrets"}  # it is made
    assert [name for name in sorted(names) if not any(end.endswith(f"/{name}") for end in endings)] == []


def test_every_link_leads_to_a_section() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors
