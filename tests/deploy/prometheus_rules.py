"""Prometheus' rule files as the Prometheus Operator's resource: `python tests/deploy/prometheus_rules.py` writes it."""

from __future__ import annotations

from typing import Any

import yaml

from files import DEPLOY, read_yaml

TARGET = DEPLOY / "kubernetes" / "overlays" / "prometheus-operator" / "prometheus-rules.yaml"
HEAD = "# deploy/prometheus/rules.yml and alerts.yml, which say why; made by tests/deploy/prometheus_rules.py.\n"


def prometheus_rule() -> dict[str, Any]:
    """The resource."""
    files = [read_yaml(DEPLOY / "prometheus" / name) for name in ("rules.yml", "alerts.yml")]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "imagequeue", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": [group for file in files for group in file["groups"]]},
    }


if __name__ == "__main__":
    TARGET.write_text(HEAD + yaml.safe_dump(prometheus_rule(), sort_keys=False, width=120, allow_unicode=True))
