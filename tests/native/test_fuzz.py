"""A small slice of tests/fuzz, which runs for as long as wanted (`make fuzz`)."""

import os
import signal
from pathlib import Path

import pytest

from fuzz import nets
from native.layers import needs_native


def test_damaged_nets_run_alike_or_are_refused(tmp_path: Path):
    report = nets.fuzz(seed=12345, count=2000, folder=tmp_path)
    assert report.wrong == []
    assert report.mutants == 2000
    # The mutants are of all kinds: most are refused, by every stage, and many run.
    assert set(report.ended) >= {"ran", "NetFormatError", "InvalidNet", "InvalidOperator", "UnsupportedOperator"}
    assert report.ended["ran"] > 200


@needs_native
def test_what_is_wrong_with_a_mutant_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Each stands for a defect: engines that disagree, an error of another kind, a process that dies.
    def disagree(folder: Path, engine: str) -> tuple[str, bytes]:
        return "ran", engine.encode()

    def fail(folder: Path, engine: str) -> tuple[str, bytes]:
        raise ZeroDivisionError

    def crash(folder: Path, engine: str) -> tuple[str, bytes]:
        os.kill(os.getpid(), signal.SIGKILL)  # no trace in the log, as SIGSEGV would leave
        return "", b""

    for number, (outcome, words) in enumerate(((disagree, "disagree"), (fail, "ZeroDivision"), (crash, "SIGKILL"))):
        monkeypatch.setattr(nets, "outcome", outcome)
        report = nets.fuzz(seed=number, count=1, folder=tmp_path)
        (line,) = report.wrong
        assert words in line
        kept = tmp_path / f"mutant-{line.split(':')[0]}"
        assert (kept / "init_net.pb").is_file()
        assert (kept / "predict_net.pb").is_file()
