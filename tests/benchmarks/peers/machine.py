"""What machine the figures are from."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

# Of the many flags of /proc/cpuinfo those that choose kernels: x86-64, then aarch64.
ISA_FLAGS = re.compile(r"ssse3|sse4_[12]|avx\w*|fma|f16c|amx_\w+|asimd\w*|i8mm|bf16|sve\w*")


def describe_machine(core: int | None) -> dict[str, Any]:
    """Processor, frequency where it is known, instruction sets, cores, the core that everything was pinned to."""
    info = _cpuinfo()
    flags = (info.get("flags") or info.get("Features") or "").split()
    return {
        "processor": info.get("model name") or platform.processor() or platform.machine(),
        "family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "mhz": round(float(info["cpu MHz"])) if "cpu MHz" in info else None,
        "isa": [flag for flag in flags if ISA_FLAGS.fullmatch(flag)],
        "cores": os.cpu_count(),
        "pinned_to_core": core,
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def pin(core: int | None) -> int | None:
    """Keep this process and all that it starts on one core, by default the last; None where that is impossible."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    chosen = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {chosen})
    return chosen


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
