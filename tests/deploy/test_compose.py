"""compose.yaml: against its schema, and with the files and settings that it names."""

from __future__ import annotations

import json
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from files import DEPLOY, DRAIN_SECONDS, read_yaml

SERVICES: dict[str, dict[str, Any]] = read_yaml(DEPLOY / "compose.yaml")["services"]


def test_it_is_what_its_schema_says() -> None:
    vendored = package_files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(read_yaml(DEPLOY / "compose.yaml"), json.loads(vendored.read_text()))


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_are_in_files_only(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        assert not variable.endswith(("_URL", "_PASSWORD")), variable


def test_workers_are_given_the_time_to_drain() -> None:
    assert float(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > DRAIN_SECONDS


def test_every_file_that_is_mounted_is_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if volume[0] == "."
    ]
    assert mounted
    for name in mounted:
        assert (DEPLOY / name).exists(), name


def test_the_ports_that_prometheus_asks_are_those_that_are_served() -> None:
    jobs = {job["job_name"]: job for job in read_yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]}
    (workers,) = jobs["imagequeue-worker"]["dns_sd_configs"]
    assert workers["names"] == ["worker"]
    exposed = next(
        line.split()[1:]
        for line in (DEPLOY / "docker" / "Dockerfile.worker").read_text().splitlines()
        if line.startswith("EXPOSE")
    )
    (targets,) = jobs["imagequeue-exporter"]["static_configs"]
    assert exposed == [str(workers["port"]), targets["targets"][0].removeprefix("exporter:")]
    assert {"worker", "exporter"} <= set(SERVICES)


def test_what_the_builds_need_is_not_ignored() -> None:
    ignore = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    for service in ("worker", "producer"):
        dockerfile = Path(DEPLOY / ".." / SERVICES[service]["build"]["dockerfile"]).read_text()
        for line in dockerfile.splitlines():
            if line.startswith("COPY") and "--from" not in line:
                for name in line.split()[1:-1]:
                    assert name.startswith("--") or f"!{name}" in ignore, name
