"""All storms by name, in the order in which they are run. Imported one by one: some need what others do not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from chaos.ledger import Ledger, Options

# Name -> module and function.
STORMS = {
    "script_faults": ("script_faults", "run"),
    "server_kills": ("server_kills", "run"),
    "client_steps": ("client_steps", "run"),
    "kill_storm": ("kill_storm", "run"),
    "kill_storm_supervised": ("kill_storm", "run_supervised"),
    "pause_storm": ("pause_storm", "run"),
    "redis_restart": ("redis_restart", "run"),
    "redis_restart_durable": ("redis_restart", "run_durable"),
    "failover": ("failover", "run"),
    "aof_cuts": ("aof_cuts", "run"),
    "network_faults": ("network_faults", "run"),
    "clock": ("clock", "run"),
    "same_job": ("same_job", "run"),
    "poison": ("poison", "run"),
    "hang": ("hang", "run"),
    "drain": ("drain", "run"),
    "maxmemory": ("maxmemory", "run"),
    "full_disk": ("full_disk", "run"),
    "stock_rq": ("stock_rq", "run"),
    "stock_rq_loses": ("stock_rq", "run_comparison"),
}


def storm(name: str) -> Callable[[Options], Ledger]:
    """The storm of this name."""
    module, function = STORMS[name]
    return getattr(import_module(f"chaos.{module}"), function)
