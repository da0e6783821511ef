"""The queries of the dashboard, and of the alerts and rules, as a Prometheus can be asked them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from files import DEPLOY, read_yaml

DASHBOARD = DEPLOY / "grafana" / "dashboards" / "imagequeue.json"
RATE_INTERVAL = "1m"  # what Grafana makes of a scrape interval of 15 s


@dataclass(frozen=True)
class Query:
    """One expression, and what it is for."""

    title: str
    expression: str


def dashboard_queries() -> list[Query]:
    """All of the dashboard's, with Grafana's variables filled in."""
    return [
        Query(panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL))
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def rule_queries() -> list[Query]:
    """Those of recording rules and alerts."""
    return [
        Query(rule.get("alert") or rule["record"], rule["expr"])
        for name in ("rules.yml", "alerts.yml")
        for group in read_yaml(DEPLOY / "prometheus" / name)["groups"]
        for rule in group["rules"]
    ]


def ask(address: str, expression: str) -> list[dict[str, Any]]:
    """The samples of an expression now. Raises HTTPError when Prometheus does not understand it."""
    with urlopen(f"{address}/api/v1/query?{urlencode({'query': expression})}", timeout=10) as reply:
        return json.load(reply)["data"]["result"]
