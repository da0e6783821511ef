"""`imagequeue doctor`: is the server set up as the queue needs it, and does anything lie about that should not?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis
from redis.exceptions import NoPermissionError

from imagequeue import contract
from imagequeue.bridge import run
from imagequeue.damaged_keys import damaged_keys
from imagequeue.errors import RedisRefused
from imagequeue.leftovers import leases_without_worker, pending_without_job
from imagequeue.link import VERSION_MIN, Link, is_too_old
from imagequeue.roles import Role, denied
from imagequeue.status import read_status

CLOCK_SECONDS_MAX = 1.0
MEMORY_SHARE_MAX = 0.9
SHOWN_MAX = 5  # jobs or commands that one finding names


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: whether it is as it should be, what was found, and what to do if it is not."""

    check: str
    ok: bool
    found: str
    remedy: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """All findings; `healthy` if none is wrong."""

    healthy: bool
    findings: tuple[Finding, ...]


def examine(link: Link, role: Role) -> Diagnosis:
    """Look at server and queue, as a user who is meant to have this role.

    Raises RedisUnavailable, and RedisRefused when this user may not even read what is looked at.
    """
    # A keyed command first: on a cluster it leads to the node that the rest is asked of.
    link.call(lambda client: client.exists(contract.COLLECTIONS_KEY))
    info = link.call(lambda client: client.info("all"))
    server = (_version(info), _primary(info), _eviction(info), _persistence(info, _settings(link)), _memory(info))
    queue = (_visible(name, check, link) for name, check in _QUEUE_CHECKS.items())
    findings = (*server, _clock(link), _access(link, role), *queue)
    return Diagnosis(all(finding.ok for finding in findings), findings)


def _visible(name: str, check: Callable[[Link], Finding], link: Link) -> Finding:
    """A producer's role, say, may not see leases: that is no illness. Any other refusal is one, of the server."""
    try:
        return check(link)
    except RedisRefused as error:
        if isinstance(error.__cause__, NoPermissionError):
            return Finding(name, True, "not visible to this user")
        return Finding(name, False, str(error), "mend what the other findings name, and look again")


def _settings(link: Link) -> dict[str, str]:
    """The server's persistence settings; empty where this user may not read them."""

    def send(client: Any) -> dict[str, str]:  # noqa: ANN401  redis-py's
        try:
            return dict(client.config_get("append*"))
        except redis.ResponseError:
            return {}

    settings: dict[str, str] = link.call(send)
    return settings


def _version(info: dict[str, Any]) -> Finding:
    server = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version')}"
    remedy = f"update it: Redis {VERSION_MIN} or Valkey is the oldest that works"
    return Finding("version", not is_too_old(info), server, remedy)


def _primary(info: dict[str, Any]) -> Finding:
    role = str(info.get("role", "master"))
    replicas = int(info.get("connected_slaves", 0))
    found = f"primary with {replicas} replicas" if role == "master" else f"replica of {info.get('master_host')}"
    return Finding("primary", role == "master", found, "name the primary in the URL: a replica takes no writes")


def _eviction(info: dict[str, Any]) -> Finding:
    policy = str(info.get("maxmemory_policy", "unknown"))
    remedy = "set `maxmemory-policy noeviction`: other policies forget accepted images when memory is full"
    return Finding("eviction", policy == "noeviction", policy, remedy)


def _persistence(info: dict[str, Any], settings: dict[str, str]) -> Finding:
    if not int(info.get("aof_enabled", 0)):
        remedy = "set `appendonly yes`: without it a restart forgets what was accepted since the last snapshot"
        return Finding("persistence", False, "no append-only file", remedy)
    broken = [name for name in ("aof_last_write_status", "aof_last_bgrewrite_status") if info.get(name, "ok") != "ok"]
    if broken:
        remedy = "look at the disk's space and the server's log"
        return Finding("persistence", False, f"{', '.join(broken)}: not ok", remedy)
    policy = settings.get("appendfsync", "not visible to this user")
    remedy = "set `appendfsync everysec` or `always`: the kernel may keep accepted images for long"
    return Finding("persistence", policy != "no", f"append-only file, appendfsync {policy}", remedy)


def _memory(info: dict[str, Any]) -> Finding:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    whole = limit or int(info.get("total_system_memory", 0))
    of_what = f"{limit / 2**20:.0f} MiB (maxmemory)" if limit else f"{whole / 2**20:.0f} MiB (machine; no maxmemory)"
    remedy = "raise maxmemory or add memory, drop finished collections, or keep results for less long (--result-ttl)"
    full = bool(whole) and used > MEMORY_SHARE_MAX * whole
    return Finding("memory", not full, f"{used / 2**20:.0f} of {of_what}", remedy)


def _clock(link: Link) -> Finding:
    begun = time.time()
    seconds, microseconds = link.call(lambda client: client.time())
    ended = time.time()
    # It was read at some instant of the round trip.
    offset = (seconds + microseconds / 1e6) - (begun + ended) / 2
    uncertain = (ended - begun) / 2
    remedy = "run NTP on both machines: leases go by Redis' clock alone, but times in results would mislead"
    found = f"{offset:+.3f} s from this machine's"
    return Finding("clock", abs(offset) - uncertain <= CLOCK_SECONDS_MAX, found, remedy)


def _access(link: Link, role: Role) -> Finding:
    missing = denied(link, role)
    found = f"all that a {role} needs" if not missing else f"a {role} is denied: {_some(missing)}"
    return Finding("access", not missing, found, "see deploy/redis/users.acl; --role names another role")


def _keys(link: Link) -> Finding:
    damaged = damaged_keys(link)
    remedy = "find out who wrote them (do others use this database?), and delete them: workers pass such a queue over"
    return Finding("keys", not damaged, _some(damaged) or "each of its own type", remedy)


def _workers(link: Link) -> Finding:
    status = run(read_status(link))
    waiting = sum(queue.images for queue in status.queues)
    found = f"{len(status.workers)} alive, {waiting} images wait"
    return Finding("workers", bool(status.workers) or not waiting, found, "start workers: `imagequeue-worker run`")


def _paused(link: Link) -> Finding:
    paused = [queue.name for queue in run(read_status(link)).queues if queue.paused and queue.images]
    remedy = "`imagequeue resume QUEUE` when it is time"
    return Finding("paused queues", not paused, _some(paused) or "none that has work", remedy)


def _leases(link: Link) -> Finding:
    leases = leases_without_worker(link)
    remedy = "a running worker takes them back within seconds; if they stay, start one on their queue"
    return Finding("leases", not leases, f"without a worker: {_some(leases) or 'none'}", remedy)


def _pending(link: Link) -> Finding:
    uncarried = [f"{count} in {name}" for name, count in pending_without_job(link).items()]
    remedy = "a running worker ends them within seconds; else `imagequeue cancel` them, and submit them again"
    return Finding("pending images", not uncarried, f"without a job: {_some(uncarried) or 'none'}", remedy)


_QUEUE_CHECKS = {
    "keys": _keys,
    "workers": _workers,
    "paused queues": _paused,
    "leases": _leases,
    "pending images": _pending,
}


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_MAX])
    return shown if len(names) <= SHOWN_MAX else f"{shown} and {len(names) - SHOWN_MAX} more"
