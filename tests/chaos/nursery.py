"""Worker processes without a supervisor, as `rq worker --worker-class imagequeue_worker.BatchWorker` runs them.

A nursery is a process that has loaded the net: it forks a worker for each line on its standard input and answers with
the pid, so that a storm can afford a thousand of them. `python -m chaos.nursery <net folder>`; its workers die with it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from chaos.faults import register_faults
from imagequeue.connection import UNAVAILABLE, connect
from imagequeue.contract import QUEUES
from imagequeue_worker.blas import limit_blas_threads


class Birth(msgspec.Struct, frozen=True, kw_only=True):
    """A worker to be started."""

    url: str
    log: str
    settings: dict[str, Any]  # of `Settings`, by name


def main(net: Path) -> None:
    """Fork workers until standard input ends."""
    limit_blas_threads()
    register_faults()
    from imagequeue_worker.logs import configure_logging
    from imagequeue_worker.nets import load_nets
    from imagequeue_worker.settings import NetChoice

    configure_logging("info", json=False)
    nets = load_nets([NetChoice(net)], "auto")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    print("ready", flush=True)
    for line in sys.stdin.buffer:
        birth, parent = msgspec.json.decode(line, type=Birth), os.getpid()
        pid = os.fork()
        if not pid:
            _be_worker(birth, nets, parent)
        print(pid, flush=True)


def _be_worker(birth: Birth, nets: Any, parent: int) -> NoReturn:
    """A worker process: from here to its end."""
    from imagequeue_worker.parent import die_with_parent

    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(birth.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        die_with_parent(parent, signal.SIGKILL)
        _work(birth, nets)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        os._exit(code)


def _work(birth: Birth, nets: Any) -> None:
    from prometheus_client import CollectorRegistry

    from imagequeue_worker.batch_worker import BatchWorker
    from imagequeue_worker.metrics import Metrics
    from imagequeue_worker.settings import Settings

    options = {
        name: tuple(map(Path, value)) if name == "image_roots" else value for name, value in birth.settings.items()
    }
    BatchWorker.settings = Settings(**options)
    BatchWorker.nets = nets
    BatchWorker.metrics = Metrics(CollectorRegistry())
    connection = connect(birth.url, resend=False)
    while True:
        try:
            worker = BatchWorker(list(options.get("queues", QUEUES)), connection=connection)
            break
        except UNAVAILABLE:  # as the supervisor waits for it
            time.sleep(0.1)
    worker.work()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
