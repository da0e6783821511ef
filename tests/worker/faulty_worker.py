"""A worker with one more kind of reference, that fails on demand; run as `imagequeue-worker` is.

fault:raise:<code>        an ImageError with that code
fault:defect              an exception that is no ImageError
fault:gate:<file>:<path>  waits until <file> exists, then gives the bytes of <path>
fault:hang                never returns
fault:kill                kills the process with SIGKILL
fault:exit                ends the process as a library might, with code 3
fault:segfault            reads where there is no memory
fault:memory              needs more memory than there is
fault:wedge               the main thread never returns, and hears no signal
fault:spin                never returns, and lets no other thread run
fault:flaky:<n>:<file>:<path>  fails <n> times with fetch_timeout, then gives the bytes of <path>; <file> counts
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
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
    if what == "wedge":
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
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


def wedge(*_: object) -> None:
    """Wait for ever in C, as a broken driver would: no signal ends it, and other threads go on."""
    mutex = ctypes.create_string_buffer(64)  # any pthread_mutex_t; zeros are an unlocked one
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(mutex)
    print("wedged", file=sys.stderr, flush=True)
    libc.pthread_mutex_lock(mutex)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, wedge)
    from imagequeue_worker.cli import main

    register("fault", make_fault)
    main()
