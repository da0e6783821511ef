"""References whose fetching does harm, for workers under test: `register_faults()` makes them known.

fault:kill      ends the process with SIGKILL, as a crash in a decoder would
fault:memory    allocates until the process is refused or has MEMORY_BYTES_MAX; then it is killed, as the kernel does
fault:hang      never returns, and lets the other threads run
fault:spin      never returns and uses a core, and lets the other threads run
fault:seize     never returns and holds the interpreter's lock: no other thread of the process runs any more
fault:slow:<seconds>:<path>   the bytes of <path>, later
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

from imagequeue_worker.references import Allowance, Fetch, ImageSources, register

MEMORY_BYTES_MAX = 3 << 30
_PAGE_BYTES = 64 << 20


def register_faults() -> None:
    """Make `fault:` a kind of reference of this process and of those it forks."""
    register("fault", _make)


def _make(sources: ImageSources) -> Fetch:
    return fetch


def fetch(ref: str, allowance: Allowance) -> bytes:
    """Do what the reference says."""
    _, what, *rest = ref.split(":", 3)
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":
            _exhaust_memory()
        case "hang":
            threading.Event().wait()
        case "spin":
            while True:
                pass
        case "seize":
            re.match(r"(a+)+$", "a" * 64 + "b")  # 2^64 steps inside of one call
        case "slow":
            time.sleep(float(rest[0]))
            return Path(rest[1]).read_bytes()
    raise ValueError(f"{ref} is no fault that is known here")


def _exhaust_memory() -> None:
    pages = []
    while len(pages) * _PAGE_BYTES < MEMORY_BYTES_MAX:
        pages.append(b"\x01" * _PAGE_BYTES)
    os.kill(os.getpid(), signal.SIGKILL)
