"""Makes the n-th `redis.call` of a script raise, or never return, by a few lines of Lua in front of its text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any

import redis

from imagequeue.scripts import script_text

PACKAGES = ("imagequeue.scripts", "imagequeue_worker.scripts")
_IN_FRONT_OF = re.compile(r"^-- in front: (.+)$", re.MULTILINE)
STRUCK_KEY = "chaos:struck"
MESSAGE = "chaos: this call fails on purpose"


class Sabotage(StrEnum):
    """What happens in place of the call."""

    RAISE = f"error('{MESSAGE}')"
    SPIN = "while true do end"  # until the server is killed


# `redis.pcall` passes: an answer of its own that looks like damage would be taken for damage, and rightly so.
_IN_FRONT = """
local chaos_redis, chaos_calls = redis, 0
local redis = {{
  call = function(...)
    chaos_calls = chaos_calls + 1
    if chaos_calls == {number} then
      chaos_redis.call('SET', '{key}', '1')
      {what}
    end
    return chaos_redis.call(...)
  end,
  pcall = chaos_redis.pcall, log = chaos_redis.log, sha1hex = chaos_redis.sha1hex,
  error_reply = chaos_redis.error_reply, status_reply = chaos_redis.status_reply,
}}
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script that clients send."""

    name: str
    text: str

    @property
    def sha(self) -> str:
        """What EVALSHA calls it by."""
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


def all_scripts() -> dict[str, Script]:
    """Every script of both packages, by name."""
    return {name: Script(name, text) for name, text in _texts()}


def _texts() -> Iterator[tuple[str, str]]:
    files = [file for package in PACKAGES for file in resources.files(package).iterdir() if file.name.endswith(".lua")]
    named = [_IN_FRONT_OF.search(file.read_text("utf-8")) for file in files]
    # What is put in front of others is no script itself.
    parts = {part.strip() for one in named if one for part in one[1].split(",")}
    for package in PACKAGES:
        for file in sorted(resources.files(package).iterdir(), key=lambda one: one.name):
            name = file.name.removesuffix(".lua")
            if file.name.endswith(".lua") and name not in parts:
                yield name, script_text(name, package)


class Saboteur:
    """Watches clients' EVALSHA calls, and swaps the one that it aims at."""

    def __init__(self, *clients: redis.Redis) -> None:
        self._names = {script.sha: script for script in all_scripts().values()}
        self._aim: tuple[str, int, Sabotage] | None = None
        for client in clients:
            client.execute_command = self._watch(client.execute_command)  # type: ignore[method-assign]

    def aim(self, script: str, number: int, what: Sabotage = Sabotage.RAISE) -> None:
        """From now on the script's `number`-th redis.call, from 1, comes to grief."""
        self._aim = (script, number, what)

    def rest(self) -> None:
        """Leave every call alone."""
        self._aim = None

    def _watch(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*command: Any, **options: Any) -> Any:
            script = self._names.get(command[1]) if command[0] == "EVALSHA" else None
            if script is None or self._aim is None or script.name != self._aim[0]:
                return execute(*command, **options)
            _, number, what = self._aim
            front = _IN_FRONT.format(number=number, key=STRUCK_KEY, what=what)
            return execute("EVAL", front + script.text, *command[2:], **options)

        return watched
