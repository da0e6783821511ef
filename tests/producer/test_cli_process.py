"""The command as a process of its own: exit codes, signals, pipes."""

from __future__ import annotations

import signal
import subprocess
import sys

import redis

from producer_hand import wait_for_command

IMAGEQUEUE = [sys.executable, "-c", "from imagequeue.cli import main; main()"]


def run(environment: dict[str, str], *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IMAGEQUEUE, *arguments],
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_redis_that_is_not_there_is_exit_code_2_without_a_traceback(
    program_environment: dict[str, str],
) -> None:
    answer = run(program_environment, "submit", "x:a", "--redis-url", "redis://127.0.0.1:1/0")
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1, answer.stderr


def test_wrong_usage_is_exit_code_2(program_environment: dict[str, str]) -> None:
    assert run(program_environment, "submit").returncode == 2


def test_a_pipe_of_references_is_submitted(
    program_environment: dict[str, str], redis_url: str, connection: redis.Redis
) -> None:
    answer = run(program_environment, "submit", "-", "--redis-url", redis_url, typed="x:a\nx:b\n")
    assert (answer.returncode, answer.stdout) == (0, "2 accepted, 0 known already, in default\n")


def test_ctrl_c_while_waiting_is_exit_code_130_without_a_traceback(
    program_environment: dict[str, str], redis_url: str, connection: redis.Redis
) -> None:
    with connection.monitor() as monitor:
        process = subprocess.Popen(
            [*IMAGEQUEUE, "submit", "x:a", "--wait", "--redis-url", redis_url],
            env=program_environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_command(monitor, "XREAD")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (130, False)


def test_importing_the_package_imports_nothing_heavy(program_environment: dict[str, str]) -> None:
    script = "import sys, imagequeue; print({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:]))"
    heavy = ["redis", "rq", "rich", "click", "msgspec", "numpy", "torch", "PIL"]
    answer = subprocess.run(
        [sys.executable, "-c", script, *heavy],
        env=program_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == "set()\n"
