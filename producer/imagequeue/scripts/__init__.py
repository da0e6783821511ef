"""The Lua scripts that change the queue's state, and how they are put together.

Each begins with its own contract: KEYS, ARGV, returns, why. Read `submit.lua` and `gate.lua` first: an image enters
pending in the one and leaves it in the other. `resubmit`, `requeue` (which enter), `cancel` (which leaves), `discard`,
`drop` and `forget` are an operator's. A line `-- in front: clock, types` names the parts that belong in front
of a script; they are kept beside it, or here. A script's meaning never changes without a new file name, because two
versions may run at once during a rolling upgrade.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_IN_FRONT = re.compile(r"^-- in front: (.+)$", re.MULTILINE)


@cache
def script_text(name: str, package: str = __name__) -> str:
    """The text of `<name>.lua` in `package`, with the parts in front that its head names."""
    body = _read(name, package)
    named = _IN_FRONT.search(body)
    parts = [part.strip() for part in named.group(1).split(",")] if named else []
    return "\n".join([*(_read(part, package) for part in parts), body])


def _read(name: str, package: str) -> str:
    """One file of `package`, or of this folder where the package has none of that name."""
    file = resources.files(package).joinpath(f"{name}.lua")
    if not file.is_file():
        file = resources.files(__name__).joinpath(f"{name}.lua")
    return file.read_text("utf-8")
