"""What `imagequeue-worker info` tells: versions, engines, and the nets that a worker would load."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import asdict
from importlib import metadata
from typing import Any

from rich.table import Table

from imagequeue_worker.caffe2 import available_engines, native_problem
from imagequeue_worker.cores import usable_cores
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.images.native_jpeg import libjpeg_version
from imagequeue_worker.nets import load_nets
from imagequeue_worker.settings import Settings
from imagequeue_worker.zoo import find_nets

PACKAGES = ("imagequeue", "numpy", "pillow", "redis", "rq", "simplejpeg")


def gather(settings: Settings) -> dict[str, Any]:
    """Everything, as JSON has it. Fetches nothing: a net that is not at hand is said to be missing."""
    engines = available_engines()
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "engines": engines,
        "engine": engines[0],
        "native_problem": native_problem() or None,
        "libjpeg": libjpeg_version(),
        "nets": _nets(settings),
    }


def _nets(settings: Settings) -> list[dict[str, Any]]:
    try:
        found = find_nets(settings.nets, fetch=False)
    except NetUnavailable:
        if settings.nets:
            raise
        return []
    nets = load_nets(found.choices, settings.engine)
    return [
        {
            "folder": str(choice.folder),
            "why": found.why,
            "name": net.model.name,
            "sha256": net.model.sha256,
            "engine": net.engine,
            "steps": [asdict(step) for step in net.net.describe()],
            "classes": net.net.classes,
            "input": list(net.net.input_size),
        }
        for choice, net in zip(found.choices, nets, strict=True)
    ]


def table(found: dict[str, Any]) -> Table:
    """The same for people."""
    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_row("python", f"{found['python']} on {found['machine']}, {found['cores']} cores")
    rows.add_row("packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    rows.add_row("engines", ", ".join(found["engines"]) + "  (best first)")
    if found["native_problem"]:
        rows.add_row("", f"no native engine: {found['native_problem']}")
    version = found["libjpeg"]
    rows.add_row("JPEG", f"as far as a net sees it, by libjpeg-turbo {version}" if version else "whole, by simplejpeg")
    for net in found["nets"]:
        size = "x".join(map(str, net["input"]))
        rows.add_row("net", f"{net['name']}: {size} -> {net['classes']} classes, engine {net['engine']}; {net['why']}")
        rows.add_row("", f"{net['folder']}  sha256 {net['sha256'][:16]}…")
        kinds = Counter(step["kernel"] for step in net["steps"])
        rows.add_row("", "; ".join(f"{count} x {kernel}" for kernel, count in kinds.most_common()))
    if not found["nets"]:
        rows.add_row("net", "none at hand; `imagequeue-worker fetch-net` fetches the zoo's, `default-net` builds one")
    return rows
