"""`imagequeue-worker` with the references of `faults.py`: `python -m chaos.supervised run …`.

CHAOS_PYTHON_CLOCK_OFFSET (seconds) makes Python's wall clock wrong, where no library can be compiled for it.
"""

from __future__ import annotations

import os
import time

from chaos.faults import register_faults


def offset_clock(seconds: float) -> None:
    """From now on `time.time` is off by so much."""
    right = time.time
    time.time = lambda: right() + seconds


if __name__ == "__main__":
    offset_clock(float(os.environ.get("CHAOS_PYTHON_CLOCK_OFFSET", "0")))
    from imagequeue_worker.cli import main

    register_faults()
    main()
