"""A worker with one more kind of reference, that fails on demand; run as `imagequeue-worker` is.

fault:raise:<code>        an ImageError with that code
fault:defect              an exception that is no ImageError
fault:gate:<file>:<path>  waits until <file> exists, then gives the bytes of <path>
fault:hang                never returns
fault:kill                kills the process with SIGKILL
fault:exit                ends the process as a library might, with code 3
fault:segfault            reads where there is no memory
fault:memory              needs more memory than there is
fault:spin                never returns, and lets no other thread run
fault:flaky:<n>:<file>:<path>  fails <n> times with fetch_timeout, then gives the bytes of <path>; <file> counts
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import threading
import time
from pathlib import Path

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import Allowance, Fetch, ImageSources, register


def make_fault(sources: ImageSources) -> Fetch:
    return fetch


def fetch(ref: str, allowance: Allowance) -> bytes:
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
    if what == "exit":
        os._exit(3)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "memory":
        return bytes(1 << 46)
    if what == "spin":
        re.match("(a+)+$", "a" * 100 + "b")
    if what == "flaky":
        with Path(rest[1]).open("a") as count:
            count.write("x")
        if Path(rest[1]).stat().st_size <= int(rest[0]):
            raise ImageError(ErrorCode.FETCH_TIMEOUT, "on demand")
        return Path(rest[2]).read_bytes()
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("a defect on demand")


if __name__ == "__main__":
    from imagequeue_worker.cli import main

    register("fault", make_fault)
    main()
