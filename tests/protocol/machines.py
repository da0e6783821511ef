"""How the state machines are run."""

from __future__ import annotations

from typing import Any

import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


def run_machine(machine: type[RuleBasedStateMachine], connection: redis.Redis, url: str, *, max_examples: int) -> None:
    """Run a machine on this Redis, which it finds as its `connection` and `url`."""
    attributes: dict[str, Any] = {"url": url, "connection": connection}
    run_state_machine_as_test(
        type("BoundMachine", (machine,), attributes),
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
