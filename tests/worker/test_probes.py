"""Whether a command is live and ready: what its processes show of themselves, and what the pages and `probe` say."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import redis

from imagequeue_worker import probes
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.probes import why_not_live, why_not_ready
from imagequeue_worker.progress import Progress
from imagequeue_worker.vitals import BEAT_LATE_SECONDS, VitalsBoard
from ports import free_port
from worker_process import StartWorker, WorkerProcess, run_cli, running_worker, until

STALL_SECONDS = 30.0
LATE = STALL_SECONDS + BEAT_LATE_SECONDS


@pytest.fixture
def board() -> VitalsBoard:
    return VitalsBoard(2)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by the probes' and the vitals' clock; tests move it."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def live(board: VitalsBoard) -> str | None:
    return why_not_live(board, stall_timeout_seconds=STALL_SECONDS)


# --- live ------------------------------------------------------------------------------------------------------------


def test_a_command_whose_processes_are_being_replaced_is_live(board: VitalsBoard, now: list[float]) -> None:
    now[0] += 10 * LATE
    assert live(board) is None


def test_a_process_that_never_beats_is_not(board: VitalsBoard, now: list[float]) -> None:
    board.rows[1].clear()
    board.rows[1].belongs_to(77)
    now[0] += LATE
    assert live(board) is None
    now[0] += 1
    assert "process 77" in str(live(board))
    board.rows[1].belongs_to(0)  # it is dead: somebody else's business
    assert live(board) is None


def test_a_process_whose_loop_hangs_is_not_although_it_beats(board: VitalsBoard, now: list[float]) -> None:
    board.rows[0].belongs_to(77)
    board.rows[0].beat(LATE)
    assert live(board) is None
    board.rows[0].beat(LATE + 1)
    assert "has not turned" in str(live(board))


def test_a_loop_that_rests_on_purpose_is_not_late(now: list[float]) -> None:
    progress = Progress()
    progress.rest(30)
    now[0] += 29
    assert progress.overdue_seconds() == 0
    assert progress.stalled_seconds() == 29
    now[0] += 3
    assert progress.overdue_seconds() == 2
    progress.advance()
    assert progress.overdue_seconds() == 0


# --- ready -----------------------------------------------------------------------------------------------------------


def test_a_command_is_ready_when_a_process_works_and_redis_answers(board: VitalsBoard) -> None:
    assert "no worker process" in str(why_not_ready(board, lambda: None))
    board.rows[0].belongs_to(77)
    board.rows[0].answered()
    assert why_not_ready(board, lambda: None) is None
    assert why_not_ready(board, lambda: "Redis is away") == "Redis is away"
    board.begin_to_end()
    assert why_not_ready(board, lambda: None) == "told to stop"


def test_a_successor_is_not_ready_because_its_predecessor_was(board: VitalsBoard) -> None:
    board.rows[0].belongs_to(77)
    board.rows[0].answered()
    board.rows[0].clear()
    board.rows[0].belongs_to(78)
    assert "no worker process" in str(why_not_ready(board, lambda: None))


def test_other_processes_see_a_row_change(board: VitalsBoard) -> None:
    pid = os.fork()
    if not pid:
        board.rows[1].beat(1.5)
        os._exit(0)
    os.waitpid(pid, 0)
    assert list(board)[1].overdue_seconds == 1.5
    assert next(iter(board)).beat_at == 0


# --- the pages and the command ---------------------------------------------------------------------------------------


def answer(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return page.status, page.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()
    except urllib.error.URLError:  # not yet there
        return 0, ""


def probe(worker: WorkerProcess, what: str) -> tuple[int, str]:
    done = run_cli("probe", what, "--metrics-port", str(worker.metrics_port))
    return done.returncode, (done.stdout + done.stderr).strip()


def test_a_worker_that_works_is_live_and_ready(start_worker: StartWorker) -> None:
    worker = start_worker()
    until(lambda: answer(worker.metrics_port, "/readyz") == (200, "ok"), worker)
    assert answer(worker.metrics_port, "/livez") == (200, "ok")
    assert probe(worker, "live") == (0, "ok")
    assert probe(worker, "ready") == (0, "ok")
    assert answer(worker.metrics_port, "/elsewhere")[0] == 404


def test_where_nobody_listens_the_answer_is_no() -> None:
    done = run_cli("probe", "live", "--metrics-port", str(free_port()))
    assert done.returncode == 1
    assert "nobody answers" in done.stderr


def test_a_worker_that_drains_is_live_and_not_ready(
    start_worker: StartWorker, producer: object, pictures: list[Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    worker = start_worker("--grace", "600")
    producer.submit(f"fault:gate:{gate}:{pictures[0]}", id="x")  # type: ignore[attr-defined]
    until(lambda: Path(f"{gate}.waiting").exists(), worker)
    worker.process.terminate()
    until(lambda: answer(worker.metrics_port, "/readyz") == (503, "told to stop"), worker)
    assert answer(worker.metrics_port, "/livez") == (200, "ok")
    gate.touch()
    assert worker.process.wait(60) == 0


def test_without_redis_a_worker_is_live_and_not_ready(net_folder: Path, tmp_path: Path) -> None:
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        redis.Redis.from_url(server.url) as connection,
        running_worker(server.url, connection, net_folder, tmp_path / "log") as worker,
    ):
        until(lambda: answer(worker.metrics_port, "/readyz") == (200, "ok"), worker)
        os.kill(server.pid or 0, signal.SIGSTOP)
        try:
            until(lambda: answer(worker.metrics_port, "/readyz")[0] == 503, worker)
            assert "Redis is away" in answer(worker.metrics_port, "/readyz")[1]
            assert answer(worker.metrics_port, "/livez") == (200, "ok")
            assert "imagequeue_redis_up 0.0" in answer(worker.metrics_port, "/metrics")[1]
        finally:
            os.kill(server.pid or 0, signal.SIGCONT)
        until(lambda: answer(worker.metrics_port, "/readyz") == (200, "ok"), worker)


def test_a_frozen_process_is_seen(board: VitalsBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process that beats, and then is stopped."""
    monkeypatch.setattr(probes, "BEAT_LATE_SECONDS", 0.0)
    row = board.rows[0]
    row.clear()
    pid = os.fork()
    if not pid:
        while True:
            row.beat(0.0)
            time.sleep(0.005)
    try:
        row.belongs_to(pid)
        until(lambda: row.read().beat_at)
        os.kill(pid, signal.SIGSTOP)
        until(lambda: why_not_live(board, stall_timeout_seconds=0.5))
        os.kill(pid, signal.SIGCONT)
        until(lambda: why_not_live(board, stall_timeout_seconds=0.5) is None)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
