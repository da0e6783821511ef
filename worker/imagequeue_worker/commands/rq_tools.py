"""RQ's own tools, made harmless: `rq info` and rq-dashboard unpickle, import and clean up what Redis names.

What RQ takes out of Redis is read as JSON, whatever it was asked to use; the names of functions in jobs lead to
nothing; and nobody's look at a registry takes a running job away from its worker.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from imagequeue.sentinel import server_url
from imagequeue_worker.errors import ToolUnavailable


def make_rq_harmless() -> None:
    """Change RQ for this process."""
    from rq import job, registry
    from rq.serializers import DefaultSerializer, JSONSerializer

    # In place, since many modules hold the class itself.
    serializer: Any = DefaultSerializer
    serializer.dumps = staticmethod(JSONSerializer.dumps)
    serializer.loads = staticmethod(JSONSerializer.loads)
    module: Any = job
    module.import_attribute = _no_function
    started: Any = registry.StartedJobRegistry
    started.cleanup = _no_cleanup


def rq_info(redis_url: str, arguments: Sequence[str]) -> None:
    """Run `rq info` with these arguments; with sentinels, on the server that is the primary now."""
    from rq.cli.cli import main

    make_rq_harmless()
    main(["info", "--url", server_url(redis_url), *arguments], prog_name="rq", standalone_mode=False)


def dashboard(redis_url: str, arguments: Sequence[str]) -> None:
    """Run rq-dashboard with these arguments, on this machine alone unless they name another address.

    With sentinels it shows the server that is the primary now, also when that becomes a replica.
    Raises ToolUnavailable when it is not installed.
    """
    make_rq_harmless()
    try:
        run = importlib.import_module("rq_dashboard.cli").run
    except ModuleNotFoundError as error:
        raise ToolUnavailable(
            f"rq-dashboard cannot run: {error.name} is not installed; pip install 'imagequeue[dashboard]'"
        ) from error
    own = [] if {"-b", "--bind"} & {argument.partition("=")[0] for argument in arguments} else ["--bind", "127.0.0.1"]
    own += ["--redis-url", server_url(redis_url), "--json"]
    run([*own, *arguments], prog_name="rq-dashboard", standalone_mode=False)


def _no_function(_name: str) -> Callable[..., None]:
    """What every name of a function in a job leads to."""
    return _nothing


def _nothing(*_arguments: object, **_options: object) -> None:
    """Do nothing."""


def _no_cleanup(*_arguments: object, **_options: object) -> list[str]:
    """In place of RQ's, which takes no lock and fails jobs that workers will reclaim; it cleaned nothing."""
    return []
