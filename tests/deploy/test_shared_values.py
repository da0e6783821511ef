"""What the deployment's files repeat of the code: names of settings and metrics, ports, user and version."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboard_queries import Query, dashboard_queries, rule_queries
from dockerfile import instructions
from files import DEPLOY, ROOT, read_yaml
from imagequeue_worker.commands.exporter import DEFAULT_PORT, exporter
from imagequeue_worker.settings import CACHE_VARIABLE, Settings, variable_of

README = (ROOT / "README.md").read_text()  # tests/test_readme.py: it names every metric that there is
MADE = {"secrets", "__pycache__"}
WRITTEN = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file() and not MADE & set(path.parts)]
VARIABLES = {
    *(variable_of(field) for field in dataclasses.fields(Settings)),
    *(option.envvar for option in exporter.params),
    CACHE_VARIABLE,
    "IMAGEQUEUE_NATIVE",  # pyproject.toml's
    "IMAGEQUEUE_VERSION",  # compose.yaml's own
    "IMAGEQUEUE_X",  # settings-from-files.sh's example
}
PORTS = [next(field.default for field in dataclasses.fields(Settings) if field.name == "metrics_port"), DEFAULT_PORT]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_setting_exists(path: Path) -> None:
    named = re.findall(r"IMAGEQUEUE_[A-Z_]*[A-Z]", path.read_text())
    assert {variable.removesuffix("_FILE") for variable in named} <= VARIABLES


@pytest.mark.parametrize("query", dashboard_queries() + rule_queries(), ids=lambda query: query.title)
def test_every_metric_exists(query: Query) -> None:
    """Prometheus finds nothing wrong with a name that nobody exports: such an alert would never fire."""
    names = re.findall(r"(?<![\w:])(?:imagequeue|rq)_[a-z_]+(?![\w:])", query.expression)
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert shown <= set(re.findall(r"`((?:imagequeue|rq)_[a-z_]+)[`{]", README))


def deployments() -> list[dict[str, Any]]:
    folder = DEPLOY / "kubernetes" / "base"
    return [deployment_of(folder / name) for name in ("worker.yaml", "exporter.yaml")]


def deployment_of(path: Path) -> dict[str, Any]:
    (found,) = (one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Deployment")
    return found["spec"]["template"]["spec"]


def test_ports_are_those_that_are_served() -> None:
    dockerfile = dict(instructions(DEPLOY / "docker" / "Dockerfile.worker"))
    assert dockerfile["EXPOSE"].split() == [str(port) for port in PORTS]
    assert [pod["containers"][0]["ports"][0]["containerPort"] for pod in deployments()] == PORTS


def test_pods_run_as_the_images_user() -> None:
    user = int(dict(instructions(DEPLOY / "docker" / "Dockerfile.worker"))["USER"])
    for pod in deployments():
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (user, user)


def test_the_manifests_name_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    (image,) = read_yaml(DEPLOY / "kubernetes" / "base" / "kustomization.yaml")["images"]
    assert image["newTag"] == version
