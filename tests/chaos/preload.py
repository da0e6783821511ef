"""Small libraries for LD_PRELOAD, compiled on the spot; see `shims/`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SHIMS = Path(__file__).with_name("shims")


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_shim(name: str, folder: Path) -> Path | None:
    """The library of `shims/<name>.c`; None where there is no C compiler."""
    found = compiler()
    if found is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"{name}.so"
    command = [found, "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIMS / f"{name}.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library
