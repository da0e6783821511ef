"""What tests that start programs share: an environment without our settings, and patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

PATIENCE_SECONDS = 90.0


def environment_without_settings() -> dict[str, str]:
    """This process' environment, without settings that a developer's shell may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IMAGEQUEUE_")}


def until(true: Callable[[], object], what: str = "", seconds: float = PATIENCE_SECONDS) -> None:
    """Return when it is true; fail when that takes for ever."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
