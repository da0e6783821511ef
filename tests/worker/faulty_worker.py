"""A worker with one more kind of reference, that fails on demand; run as `imagequeue-worker` is.

fault:raise:<code>        an ImageError with that code
fault:defect              an exception that is no ImageError
fault:gate:<file>:<path>  waits until <file> exists, then gives the bytes of <path>
fault:hang                never returns
fault:kill                kills the worker process with SIGKILL
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import Fetch, ImageSources, register


def make_fault(sources: ImageSources) -> Fetch:
    return fetch


def fetch(ref: str) -> bytes:
    _, what, *rest = ref.split(":")
    if what == "raise":
        raise ImageError(ErrorCode(rest[0]), "on demand")
    if what == "gate":
        Path(f"{rest[0]}.waiting").touch()
        while not Path(rest[0]).exists():
            time.sleep(0.01)
        return Path(rest[1]).read_bytes()
    if what == "hang":
        threading.Event().wait()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("a defect on demand")


if __name__ == "__main__":
    from imagequeue_worker.cli import main

    register("fault", make_fault)
    main()
