"""What all tests share: a Redis, a net, pictures, and what a run says about the golden data it compared."""

from __future__ import annotations

import fcntl
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from imagequeue_worker.blas import limit_blas_threads

settings.register_profile("imagequeue", deadline=None)  # machines are shared: no test is timed
settings.load_profile("imagequeue")
limit_blas_threads()  # as in worker processes, before numpy is imported

pytest_plugins = ["redis_server"]

# A shell's background jobs ignore Ctrl-C, and so would the commands that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def net_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic net of MobileNetV2's shape, made once for all processes of the run."""
    from synthetic_net import write_synthetic_net

    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = base / "synthetic_net"
    with (base / "synthetic_net.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "predict_net.pb").exists():
            write_synthetic_net(folder, width=0.1)
    return folder


@pytest.fixture(scope="session")
def pictures() -> list[Path]:
    """Real photographs: those that scikit-image ships."""
    from skimage import data

    folder = Path(data.__file__).parent
    return [folder / name for name in ("coffee.png", "chelsea.png", "rocket.jpg")]


# --- golden data: what was compared, summed over all processes of the run ---------------------------------------------

GOLDEN = "golden:"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many golden cases, blobs, probabilities, crops and pictures ran, and how much of them differed."""
    compared: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    accuracies: list[str] = []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name.startswith("golden_accuracy") and report.when == "call":
                accuracies.append(str(value))
            if name.startswith(GOLDEN) and report.when == "call":
                compared[name.removeprefix(GOLDEN)] += value[0]
                differing[name.removeprefix(GOLDEN)] += value[1]
    if compared:
        terminalreporter.section("golden data")
        for kind in sorted(compared):
            terminalreporter.write_line(f"{kind:24} {compared[kind]:>12,} compared {differing[kind]:>6,} differing")
    for accuracy in accuracies:
        terminalreporter.write_line(accuracy)
