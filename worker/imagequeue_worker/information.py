"""What `imagequeue-worker info` tells: versions, engines, and the net that a worker would load."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from rich.table import Table

from imagequeue_worker.caffe2 import available_engines
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.nets import load_nets
from imagequeue_worker.settings import Settings
from imagequeue_worker.zoo import DEFAULT_NET, default_cache, find_net

PACKAGES = ("imagequeue", "numpy", "pillow", "redis", "rq", "simplejpeg")


def gather(settings: Settings) -> dict[str, Any]:
    """Everything, as JSON has it. Fetches nothing: a net that is not at hand is said to be missing."""
    engines = available_engines()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "engines": engines,
        "engine": engines[0],
        "net": _net(settings),
    }


def _net(settings: Settings) -> dict[str, Any] | None:
    cached = default_cache() / "nets" / DEFAULT_NET.name
    try:
        folder = find_net(settings.net or cached)
    except NetUnavailable:
        if settings.net:
            raise
        return None
    nets = load_nets(folder, settings.engine)
    return {
        "folder": str(folder),
        "name": nets.first.model.name,
        "sha256": nets.first.model.sha256,
        "engine": nets.first.engine,
        "classes": nets.first.net.classes,
        "input": list(nets.first.net.input_size),
    }


def table(found: dict[str, Any]) -> Table:
    """The same for people."""
    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_row("python", f"{found['python']} on {found['machine']}, {found['cores']} cores")
    rows.add_row("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    rows.add_row("engines", ", ".join(found["engines"]) + "  (best first)")
    net = found["net"]
    if net is None:
        rows.add_row("net", "none at hand; `imagequeue-worker fetch-net` fetches the zoo's")
    else:
        size = "x".join(map(str, net["input"]))
        rows.add_row("net", f"{net['name']}: {size} -> {net['classes']} classes, engine {net['engine']}")
        rows.add_row("", f"{net['folder']}  sha256 {net['sha256'][:16]}…")
    return rows
