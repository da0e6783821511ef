"""Prometheus' files: what promtool says about them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from files import DEPLOY, program, read_yaml

PROMETHEUS = DEPLOY / "prometheus"
CASES = PROMETHEUS / "tests" / "alerts.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in read_yaml(PROMETHEUS / "alerts.yml")["groups"] for rule in group["rules"]
}


def promtool(*arguments: str | Path) -> None:
    tool = program("promtool", "prometheus")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", PROMETHEUS / "rules.yml", PROMETHEUS / "alerts.yml")


def test_alerts_fire_when_they_must_and_only_then() -> None:
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    cases = [
        bool(expected["exp_alerts"])
        for case in read_yaml(CASES)["tests"]
        for expected in case["alert_rule_test"]
        if expected["alertname"] == alert
    ]
    assert set(cases) == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_how_urgent_it_is_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
