"""Writes dashboards/imagequeue.json beside it: the panels and their queries, without Grafana's thousand defaults.

    python deploy/grafana/dashboard.py

A test compares the file with what this says, and runs every query on a live Prometheus.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "imagequeue.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # of Grafana's grid


@dataclass(frozen=True)
class Panel:
    """One panel: its title, its queries with their legends, what it looks like. `width` is in grid columns."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    help: str = ""


def rate(metric: str, by: str = "") -> str:
    """Per second, summed over workers."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}[$__rate_interval]))"


def lines(title: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, help_: str = "") -> Panel:
    """Lines over time; each query comes with its legend."""
    return Panel(title, queries, unit, width=width, help=help_)


def number(title: str, query: str, unit: str = "short", help_: str = "") -> Panel:
    """One number: the newest."""
    return Panel(title, ((query, ""),), unit, "stat", width=4, height=4, help=help_)


def heat(title: str, metric: str, unit: str = "s") -> Panel:
    """How a histogram's values are spread, over time, of the whole fleet."""
    return Panel(title, ((rate(f"{metric}_bucket", "le"), "{{le}}"),), unit, "heatmap")


def quantiles(stage: str) -> tuple[tuple[str, str], ...]:
    """The fleet's p99 of one stage, out of the sums of its workers' buckets."""
    return ((f"histogram_quantile(0.99, le:imagequeue_{stage}_seconds_bucket:rate5m)", stage),)


STAGES = ("queue", "fetch", "decode", "infer", "finish", "image")
ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        number("Images per second", rate("imagequeue_images_total"), "ops"),
        number("Backlog", "imagequeue:backlog_seconds:sum", "s", "Seconds of work for the fleet as it is"),
        number("Oldest image", "max(queue:imagequeue_oldest_image_age_seconds:max)", "s"),
        number("Errors", "imagequeue:image_errors:ratio_rate5m", "percentunit", "Withdrawn images not counted"),
        number("Processes ready", "sum(imagequeue_processes_ready)"),
        number("Redis up", "max(imagequeue_redis_up)", "bool_yes_no"),
    ),
    "Throughput": (
        lines("Images by status", (rate("imagequeue_images_total", "status"), "{{status}}"), unit="ops"),
        lines("Images by queue", (rate("imagequeue_images_total", "queue"), "{{queue}}"), unit="ops"),
        lines("Images by net", (rate("imagequeue_images_total", "model"), "{{model}}"), unit="ops"),
        heat("Batch sizes", "imagequeue_batch_images", "short"),
        lines(
            "Images per batch",
            (f"{rate('imagequeue_batch_images_sum')} / {rate('imagequeue_batch_images_count')}", "mean"),
            help_="Under load, batches fill by themselves",
        ),
        lines("Images in flight", ("sum(imagequeue_images_in_flight)", "in flight")),
    ),
    "Backlog": (
        lines(
            "Backlog in seconds",
            ("queue:imagequeue_backlog_seconds:max", "{{queue}}"),
            unit="s",
            help_="What the autoscaler goes by",
        ),
        lines("Backlog in images", ("queue:imagequeue_backlog_images:max", "{{queue}}")),
        lines(
            "Oldest image",
            ("queue:imagequeue_oldest_image_age_seconds:max", "{{queue}}"),
            ("queue:imagequeue_age_objective:seconds", "objective {{queue}}"),
            unit="s",
        ),
        lines("Pending by collection", ("max by (collection) (imagequeue_pending_images)", "{{collection}}")),
        lines(
            "Accepted and finished",
            ("sum(max by (collection) (imagequeue_accepted_images_total))", "accepted"),
            ("sum(max by (collection, status) (imagequeue_finished_images_total))", "finished"),
            help_="Accepted = pending + ok + error, at every instant",
        ),
        lines("Paused queues", ("max by (queue) (imagequeue_queue_paused)", "{{queue}}"), unit="bool_yes_no"),
    ),
    "Latency": (
        lines(
            "p99 by stage, whole fleet", *(query for stage in STAGES for query in quantiles(stage)), unit="s", width=24
        ),
        *(heat(f"{stage} seconds", f"imagequeue_{stage}_seconds") for stage in STAGES),
    ),
    "Errors and recoveries": (
        lines("Errors by code", (rate('imagequeue_images_total{status="error"}', "code"), "{{code}}"), unit="ops"),
        lines("Further tries by code", (rate("imagequeue_image_retries_total", "code"), "{{code}}"), unit="ops"),
        lines("Dead letters", ("max by (collection) (imagequeue_dead_letters)", "{{collection}}")),
        lines(
            "Jobs recovered",
            ("sum by (reason) (increase(imagequeue_recovered_jobs_total[$__rate_interval]))", "{{reason}}"),
        ),
        lines(
            "Leases",
            ("sum by (state) (max by (queue, state) (imagequeue_leases))", "{{state}}"),
            ("sum(increase(imagequeue_leases_lost_total[$__rate_interval]))", "lost"),
        ),
        lines(
            "Restarts and reconnects",
            ("sum by (reason) (increase(imagequeue_process_restarts_total[$__rate_interval]))", "{{reason}}"),
            ("sum(increase(imagequeue_redis_reconnects_total[$__rate_interval]))", "Redis came back"),
        ),
    ),
    "Fleet": (
        lines("Processes", ("sum(imagequeue_processes)", "wanted"), ("sum(imagequeue_processes_ready)", "ready")),
        Panel("Engines", (("count by (engine, name) (imagequeue_model_info)", ""),), kind="table"),
        Panel("Versions", (("count by (version) (imagequeue_build_info)", ""),), kind="table"),
        lines("Measured rate", ("max(imagequeue_fleet_images_per_second)", "images/s"), unit="ops"),
        lines(
            "Memory of supervisors",
            ('process_resident_memory_bytes{job=~"imagequeue-.*"}', "{{instance}}"),
            unit="bytes",
        ),
        lines("Seconds that the exporter reads", ("imagequeue_exporter_read_seconds", "{{instance}}"), unit="s"),
    ),
    "Redis": (
        lines(
            "Memory",
            ("max(imagequeue_redis_memory_used_bytes)", "used"),
            ("max(imagequeue_redis_memory_max_bytes)", "maxmemory (0: none)"),
            unit="bytes",
        ),
        lines("Clients", ("max(imagequeue_redis_connected_clients)", "clients")),
        lines(
            "Persistence",
            ("max(imagequeue_redis_aof_enabled)", "append-only file"),
            ("max(imagequeue_redis_aof_last_write_ok)", "last write ok"),
            ("max(imagequeue_redis_evicted_keys_total)", "evicted keys (must stay 0)"),
        ),
        Panel("Servers", (("max by (version, role, maxmemory_policy) (imagequeue_redis_info)", ""),), kind="table"),
    ),
    "RQ, all queues of the server": (
        lines("Jobs by status", ("sum by (status) (max by (queue, status) (rq_jobs))", "{{status}}")),
        lines("Queued jobs", ('max by (queue) (rq_jobs{status="queued"})', "{{queue}}")),
        lines("Age of the first job", ("max by (queue) (rq_oldest_job_age_seconds)", "{{queue}}"), unit="s"),
        lines("Workers by queue", ("max by (queue) (rq_queue_workers)", "{{queue}}")),
        lines("Workers by state", ("max by (state) (rq_workers)", "{{state}}")),
        lines("Suspended", ("max(rq_suspended)", "suspended"), unit="bool_yes_no"),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "imagequeue",
        "title": "imagequeue",
        "tags": ["imagequeue"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [{"id": number} | panel for number, panel in enumerate(_laid_out(), 1)],
    }


def _laid_out() -> Iterator[dict[str, Any]]:
    """All panels from left to right, each row of panels under a title of its own."""
    y = 0
    for title, panels in ROWS.items():
        yield {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, COLUMNS, 1)}
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + panel.height
            yield _drawn(panel) | {"gridPos": _place(x, y, panel.width, panel.height)}
            x += panel.width
        y += panels[-1].height


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _drawn(panel: Panel) -> dict[str, Any]:
    now_only = panel.kind in ("stat", "table")
    targets = [
        {
            "refId": "ABCDEFGH"[place],
            "datasource": DATASOURCE,
            "expr": query,
            "legendFormat": legend or "__auto",
            "format": {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series"),
            "instant": now_only,
            "range": not now_only,
        }
        for place, (query, legend) in enumerate(panel.queries)
    ]
    drawn = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
    }
    if panel.kind == "heatmap":
        drawn["options"] = {
            "calculate": False,
            "yAxis": {"unit": panel.unit},
            "color": {"mode": "scheme", "scheme": "Oranges"},
        }
    return drawn


if __name__ == "__main__":
    TARGET.write_text(json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n")
