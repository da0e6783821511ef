"""What a supervisor does with signals that come at an unlucky moment; each case in a process of its own."""

from __future__ import annotations

import subprocess
import sys

SETUP = """
import os, signal
from imagequeue_worker.settings import Settings
from imagequeue_worker.supervisor import Supervisor

class Works(Supervisor):
    def _work(self, slot, token):  # a child that gets so far has not heard of the signal
        pass

supervisor = Works(Settings(processes=1, metrics_port=0), nets=None)
child = supervisor._workers[0]
signal.signal(signal.SIGTERM, supervisor._on_signal)
"""


def said_by(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", SETUP + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_signal_that_meets_a_child_before_its_own_handlers_do_ends_the_child() -> None:
    code = said_by("""
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
pid = supervisor._fork(child, "token")
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
    assert code == "-15"


def test_a_signal_that_comes_during_a_fork_reaches_the_supervisor() -> None:
    said = said_by("""
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
child.pid = supervisor._fork(child, "token")
os.waitpid(child.pid, 0)
print(supervisor._signal == signal.SIGTERM)
""")
    assert said == "True"


def test_a_signal_between_a_childs_end_and_its_note_is_no_error() -> None:
    said = said_by("""
child.pid = supervisor._fork(child, "token")
os.waitpid(child.pid, 0)
os.kill(os.getpid(), signal.SIGTERM)
print(supervisor._signal == signal.SIGTERM)
""")
    assert said == "True"
