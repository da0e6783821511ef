"""What Redis says of itself: one INFO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis


@dataclass(frozen=True, slots=True)
class RedisState:
    """Sizes in bytes; `memory_max_bytes` is 0 where no limit is set."""

    version: str
    role: str
    maxmemory_policy: str
    memory_used_bytes: int
    memory_max_bytes: int
    aof_enabled: bool
    aof_last_write_ok: bool
    connected_clients: int
    evicted_keys: int


def read_redis(connection: redis.Redis) -> RedisState:
    """Ask for it. Managed servers leave lines out: those are 0, or unknown."""
    info: dict[str, Any] = dict(connection.info())
    server = "valkey" if "valkey_version" in info else "redis"
    version = info.get("valkey_version") or info.get("redis_version") or "unknown"
    return RedisState(
        version=f"{server} {version}",
        role=str(info.get("role", "unknown")),
        maxmemory_policy=str(info.get("maxmemory_policy", "unknown")),
        memory_used_bytes=int(info.get("used_memory", 0)),
        memory_max_bytes=int(info.get("maxmemory", 0)),
        aof_enabled=bool(info.get("aof_enabled", 0)),
        aof_last_write_ok=info.get("aof_last_write_status", "ok") == "ok",
        connected_clients=int(info.get("connected_clients", 0)),
        evicted_keys=int(info.get("evicted_keys", 0)),
    )
