"""Settings: every field is read from its environment variable, and refuses what cannot be used."""

from __future__ import annotations

import dataclasses
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from imagequeue_worker.errors import SettingsError
from imagequeue_worker.settings import NetChoice, Settings, variable_of

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}

# field -> (text in the environment, value)
GOOD: dict[str, tuple[str, Any]] = {
    "redis_url": ("redis://elsewhere:6380/3", "redis://elsewhere:6380/3"),
    "queues": ("urgent classify", ("urgent", "classify")),
    "nets": ("/:a=/usr", (NetChoice(Path("/")), NetChoice(Path("/usr"), "a"))),
    "engine": ("portable", "portable"),
    "image_roots": (os.pathsep.join(["/", "/tmp"]), (Path("/"), Path("/tmp").resolve())),
    "processes": ("3", 3),
    "batch_images": ("64", 64),
    "max_wait_ms": ("20", 20),
    "fetch_concurrency": ("64", 64),
    "fetch_per_host": ("2", 2),
    "fetch_timeout": ("2.5", 2.5),
    "max_redirects": ("0", 0),
    "allow_networks": ("10.1.0.0/16 fd00::/8", (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))),
    "decode_threads": ("4", 4),
    "lease_seconds": ("1.5", 1.5),
    "losses_max": ("3", 3),
    "isolation_seconds": ("2.5", 2.5),
    "isolation_memory": ("512M", 512 << 20),
    "retries_max": ("0", 0),
    "retry_seconds": ("0.25", 0.25),
    "max_memory": ("2G", 2 << 30),
    "stall_timeout": ("12.5", 12.5),
    "grace": ("0", 0.0),
    "result_ttl": ("60", 60),
    "max_image_bytes": ("1000", 1000),
    "max_bytes_in_flight": ("64M", 64 << 20),
    "max_frames": ("10", 10),
    "max_pixels": ("1000000", 1_000_000),
    "max_side": ("4096", 4096),
    "metrics_host": ("0.0.0.0", "0.0.0.0"),
    "metrics_port": ("0", 0),
    "tracing": ("true", True),
    "log_level": ("debug", "debug"),
    "log_json": ("true", True),
}

# field -> texts that cannot be used; fields that are missing here take any text
BAD: dict[str, list[str]] = {
    "nets": ["/no/such/folder", "/etc/passwd"],
    "image_roots": ["/no/such/folder"],
    "processes": ["-1", "many", "1.5"],
    "batch_images": ["0", "1025", "many"],
    "max_wait_ms": ["-1", "60001", "1.5"],
    "fetch_concurrency": ["0", "1025"],
    "fetch_per_host": ["0", "1025"],
    "fetch_timeout": ["0", "nan", "long"],
    "max_redirects": ["-1", "101"],
    "allow_networks": ["10.1.0.0/99", "intranet"],
    "max_bytes_in_flight": ["-1", "2GB", "much"],
    "max_frames": ["0"],
    "decode_threads": ["0", "65"],
    "lease_seconds": ["0.5", "-1", "nan", "inf", "long"],
    "losses_max": ["0", "-1"],
    "isolation_seconds": ["0", "nan", "long"],
    "isolation_memory": ["-1", "2GB", "much"],
    "retries_max": ["-1", "101", "1.5"],
    "retry_seconds": ["-1", "nan", "long"],
    "max_memory": ["-1", "1.5G", "much"],
    "stall_timeout": ["0", "nan", "long"],
    "grace": ["-1", "nan", "long"],
    "result_ttl": ["0", "-1", "1.5"],
    "max_image_bytes": ["0", "64MB"],
    "max_pixels": ["0"],
    "max_side": ["0"],
    "metrics_port": ["-1", "65536", "http"],
    "tracing": ["maybe"],
    "log_level": ["loud", "INFO2"],
    "log_json": ["maybe"],
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("IMAGEQUEUE_")]:
        monkeypatch.delenv(name)


def test_every_field_is_told_here() -> None:
    assert set(GOOD) == set(FIELDS)


def test_every_field_has_a_variable_of_its_own() -> None:
    assert len({variable_of(field) for field in FIELDS.values()}) == len(FIELDS)


def test_without_variables_the_defaults_hold() -> None:
    assert Settings.from_environment() == Settings()


@pytest.mark.parametrize("name", GOOD)
def test_a_field_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, value = GOOD[name]
    monkeypatch.setenv(variable_of(FIELDS[name]), text)
    assert getattr(Settings.from_environment(), name) == value


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_changes_no_other_field(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, value = GOOD[name]
    monkeypatch.setenv(variable_of(FIELDS[name]), text)
    assert Settings.from_environment() == dataclasses.replace(Settings(), **{name: value})


@pytest.mark.parametrize("name", GOOD)
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(variable_of(FIELDS[name]), "")
    assert Settings.from_environment() == Settings()


BAD_CASES = [(name, text) for name, texts in BAD.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), BAD_CASES)
def test_a_value_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(variable_of(FIELDS[name]), text)
    with pytest.raises(SettingsError):
        Settings.from_environment()


@pytest.mark.parametrize("name", BAD)
def test_a_refusal_names_the_setting(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    variable = variable_of(FIELDS[name])
    monkeypatch.setenv(variable, BAD[name][0])
    flag = variable.removeprefix("IMAGEQUEUE_").replace("_", "-").lower()
    with pytest.raises(SettingsError, match=f"--{flag}"):
        Settings.from_environment()
