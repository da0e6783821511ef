"""The worker processes of a storm: bare ones out of a nursery, and supervised ones as users run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import redis

from chaos.nursery import Birth
from chaos.world import World
from imagequeue.contract import RQ_KEY_PREFIX
from programs import environment_without_settings

TESTS = Path(__file__).parents[1]
END_SECONDS = 120.0


def program_environment(**more: str) -> dict[str, str]:
    """Ours without settings that a developer's shell may have; `chaos` can be imported."""
    ours = environment_without_settings()
    paths = [str(TESTS), *filter(None, [ours.get("PYTHONPATH")])]
    return ours | {"PYTHONPATH": os.pathsep.join(paths)} | more


def lives(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@dataclass(slots=True)
class Fleet:
    """The workers; a context manager that leaves none behind."""

    world: World
    url: str
    connection: redis.Redis
    folder: Path
    lease_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)  # of every worker process
    bare: list[int] = field(default_factory=list)
    supervisors: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _nursery: subprocess.Popen[bytes] | None = None
    _born: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for supervisor in self.supervisors:
            with suppress(subprocess.TimeoutExpired):
                supervisor.terminate()
                supervisor.wait(5)
            supervisor.kill()
            supervisor.wait()
        if self._nursery is not None:
            self._nursery.kill()  # its workers die with it
            self._nursery.wait()

    # --- starting -----------------------------------------------------------------------------------------------

    def start_bare(self, url: str | None = None, **settings: Any) -> int:
        """A worker without a supervisor; its pid. `settings` are those of `Settings`."""
        nursery = self._nursery = self._nursery or self._start_nursery()
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        self._born += 1
        own = {"lease_seconds": self.lease_seconds, "image_roots": [str(self.world.pictures)], "metrics_port": 0}
        log = self.folder / f"bare-{self._born}.log"
        birth = Birth(url=url or self.url, log=str(log), settings=own | settings)
        nursery.stdin.write(msgspec.json.encode(birth) + b"\n")
        nursery.stdin.flush()
        pid = int(nursery.stdout.readline())
        self.bare.append(pid)
        return pid

    def start_supervised(
        self, processes: int, *arguments: str, url: str | None = None, **environment: str
    ) -> subprocess.Popen[bytes]:
        """`imagequeue-worker run` with so many worker processes."""
        log = self.folder / f"supervised-{len(self.supervisors)}.log"
        command = [sys.executable, "-m", "chaos.supervised", "run", "--redis-url", url or self.url]
        command += ["--net", str(self.world.net), "--image-root", str(self.world.pictures), "--metrics-port", "0"]
        command += ["--lease-seconds", str(self.lease_seconds), "--processes", str(processes), *arguments]
        with log.open("ab") as out:
            all_of_it = program_environment(**{**self.environment, **environment})
            supervisor = subprocess.Popen(command, stdout=out, stderr=out, env=all_of_it, start_new_session=True)
        self.supervisors.append(supervisor)
        return supervisor

    def _start_nursery(self) -> subprocess.Popen[bytes]:
        with (self.folder / "nursery.log").open("ab") as log:
            nursery = subprocess.Popen(
                [sys.executable, "-m", "chaos.nursery", str(self.world.net)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=program_environment(**self.environment),
            )  # fmt: skip
        assert nursery.stdout is not None
        if nursery.stdout.readline() != b"ready\n":
            raise AssertionError(f"the nursery did not start: {(self.folder / 'nursery.log').read_text()[-2000:]}")
        return nursery

    # --- looking ------------------------------------------------------------------------------------------------

    def ready(self) -> dict[int, str]:
        """pid -> RQ's name of the workers that are at work, the longest at work first."""
        found = []
        for key in self.connection.smembers(f"{RQ_KEY_PREFIX}:workers"):
            pid, death, birth = self.connection.hmget(key, "pid", "death", "birth")
            if pid and not death and lives(int(pid)):
                found.append((birth or b"", int(pid), key.decode().removeprefix(f"{RQ_KEY_PREFIX}:worker:")))
        return {pid: name for _, pid, name in sorted(found)}

    def log_text(self) -> str:
        """What all workers have said."""
        logs = [*self.folder.glob("bare-*.log"), *self.folder.glob("supervised-*.log")]
        return "\n".join(log.read_text("utf-8", "replace") for log in sorted(logs))

    # --- ending -------------------------------------------------------------------------------------------------

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(pid, signal.SIGKILL)
        wait_for_ends([pid])
        if pid in self.bare:
            self.bare.remove(pid)

    def stop(self) -> None:
        """SIGTERM to all, and wait until they have taken leave."""
        for pid in [*self.bare, *(supervisor.pid for supervisor in self.supervisors)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        for supervisor in self.supervisors:
            supervisor.wait(END_SECONDS)
        wait_for_ends(self.bare)
        self.bare.clear()
        self.supervisors.clear()


def wait_for_ends(pids: Iterable[int]) -> None:
    """Return when none of them lives."""
    deadline = time.monotonic() + END_SECONDS
    for pid in pids:
        while lives(pid):
            if time.monotonic() > deadline:
                raise AssertionError(f"process {pid} does not end")
            time.sleep(0.002)
