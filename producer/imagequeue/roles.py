"""Who may do what: the commands that each role's work needs, and which of them Redis denies this user.

`deploy/redis/users.acl` grants them. Whether a command is allowed is asked inside MULTI, where Redis checks each as it
is queued, and taken back with DISCARD: nothing runs, and every version can answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import redis
from redis.exceptions import NoPermissionError

from imagequeue import contract
from imagequeue.contract import DEFAULT_COLLECTION, RQ_KEY_PREFIX
from imagequeue.link import Link

_SHA1 = "0" * 40  # of no script

_PENDING = contract.pending_key(DEFAULT_COLLECTION)
_RESULTS = contract.results_key(DEFAULT_COLLECTION)
_COMPLETED = contract.completed_key(DEFAULT_COLLECTION)
_TOTALS = contract.totals_key(DEFAULT_COLLECTION)
_DEAD = contract.dead_key(DEFAULT_COLLECTION)
_BLOB = contract.blob_key("0" * 64)
_JOB = contract.job_key("iq-0")
_JOB_RESULTS = f"{RQ_KEY_PREFIX}:results:iq-0"
_QUEUES = f"{RQ_KEY_PREFIX}:queues"
_LIST = contract.queue_key("classify")
_WIP = f"{RQ_KEY_PREFIX}:wip:classify"
_FINISHED = f"{RQ_KEY_PREFIX}:finished:classify"
_EXECUTION = f"{RQ_KEY_PREFIX}:execution:iq-0:iq0"
_EXECUTIONS = f"{RQ_KEY_PREFIX}:executions:iq-0"
_WORKERS = f"{RQ_KEY_PREFIX}:workers"
_WORKER = f"{RQ_KEY_PREFIX}:worker:w"

Command = tuple[str | int, ...]


class Role(StrEnum):
    """What a user of Redis is meant to do; an operator can do all that a producer can."""

    PRODUCER = "producer"
    OPERATOR = "operator"
    WORKER = "worker"
    EXPORTER = "exporter"


_BASE: tuple[Command, ...] = (("PING",), ("TIME",), ("SCRIPT", "LOAD", "return 1"), ("INFO", "server"))

_SUBMIT: tuple[Command, ...] = (
    ("EVALSHA", _SHA1, 9, _PENDING, _TOTALS, contract.WAITING_KEY, contract.COLLECTIONS_KEY, _QUEUES, _LIST, _JOB,
     _JOB_RESULTS, _BLOB),
    ("TYPE", _PENDING), ("TYPE", _RESULTS), ("HGET", _PENDING, "f"), ("HEXISTS", _RESULTS, "f"), ("EXISTS", _BLOB),
    ("HMGET", _PENDING, "f"), ("HMGET", _RESULTS, "f"), ("HGET", contract.WAITING_KEY, "f"), ("SADD", _QUEUES, "m"),
    ("PTTL", _BLOB), ("PEXPIRE", _BLOB, 1), ("DEL", _JOB, _JOB_RESULTS), ("HSET", _JOB, "f", "v"),
    ("SADD", contract.COLLECTIONS_KEY, "m"), ("HINCRBY", contract.WAITING_KEY, "f", 1), ("HINCRBY", _TOTALS, "f", 1),
    ("HSET", _PENDING, "f", "v"), ("HDEL", _PENDING, "f"), ("RPUSH", _LIST, "v"), ("SET", _BLOB, "v", "PX", 1),
    ("WAIT", 0, 1), ("WAITAOF", 0, 0, 1),
)  # fmt: skip

_READ: tuple[Command, ...] = (
    ("XREAD", "STREAMS", _COMPLETED, "0"), ("XRANGE", _COMPLETED, "-", "+"), ("XINFO", "STREAM", _COMPLETED),
    ("HSCAN", _RESULTS, 0), ("HLEN", _PENDING), ("HMGET", _TOTALS, "f"), ("HMGET", contract.WAITING_KEY, "f"),
    ("SMEMBERS", contract.PAUSED_KEY), ("SMEMBERS", contract.COLLECTIONS_KEY), ("SMEMBERS", _WORKERS),
    ("HMGET", _WORKER, "f"), ("HGETALL", contract.RATES_KEY), ("LLEN", _LIST),
)  # fmt: skip

_OPERATE: tuple[Command, ...] = (
    ("EVALSHA", _SHA1, 4, _RESULTS, _COMPLETED, _TOTALS, _DEAD), ("COMMAND", "INFO", "HPEXPIREAT"),
    ("HVALS", _TOTALS), ("HMGET", _JOB, "f"), ("XADD", _COMPLETED, "*", "f", "v"), ("HSET", _RESULTS, "f", "v"),
    ("HPEXPIREAT", _RESULTS, 1, "FIELDS", 1, "f"), ("HSET", _DEAD, "f", "v"), ("HDEL", _PENDING, "f"),
    ("HDEL", _RESULTS, "f"), ("HDEL", _DEAD, "f"),
    ("XTRIM", _COMPLETED, "MINID", 1), ("HSCAN", _PENDING, 0), ("HSCAN", _DEAD, 0), ("HMGET", _DEAD, "f"),
    ("HEXISTS", _DEAD, "f"), ("HLEN", _RESULTS), ("SREM", contract.COLLECTIONS_KEY, "m"),
    ("UNLINK", _RESULTS, _COMPLETED, _TOTALS, _DEAD), ("LREM", _LIST, -1, "v"), ("SADD", contract.PAUSED_KEY, "m"),
    ("SREM", contract.PAUSED_KEY, "m"), ("SMEMBERS", _QUEUES), ("DEL", f"{contract.KEY_PREFIX}:nothing"),
    ("CONFIG", "GET", "appendfsync"), ("ZRANGE", _WIP, 0, 1), ("HGET", _EXECUTION, "f"), ("EXISTS", _WORKER),
)  # fmt: skip

_WORK: tuple[Command, ...] = (
    ("EVALSHA", _SHA1, 3, _LIST, _WORKER, contract.RATES_KEY), ("COMMAND", "INFO", "HPEXPIREAT"),
    ("BLMOVE", _LIST, _LIST, "LEFT", "LEFT", 1), ("LRANGE", _LIST, 0, 1), ("LTRIM", _LIST, 0, 1), ("LPUSH", _LIST, "v"),
    ("HSET", _JOB, "f", "v"), ("HINCRBY", _JOB, "f", 1), ("PERSIST", _JOB), ("EXPIRE", _JOB, 1), ("DEL", _JOB),
    ("HSET", _EXECUTION, "f", "v"), ("ZADD", _EXECUTIONS, 1, "m"), ("ZADD", _WIP, 1, "m"), ("ZSCORE", _WIP, "m"),
    ("ZMSCORE", _WIP, "m"), ("ZREMRANGEBYSCORE", _FINISHED, 0, 1),
    ("ZREM", _WIP, "m"), ("ZRANGEBYSCORE", _WIP, 0, 1), ("SADD", f"{_WORKER}:executions", "m"), ("SADD", _WORKERS, "m"),
    ("SREM", f"{_WORKER}:executions", "m"), ("HSET", _WORKER, "f", "v"), ("XADD", _JOB_RESULTS, "*", "f", "v"),
    ("XADD", _COMPLETED, "*", "f", "v"), ("XTRIM", _COMPLETED, "MINID", 1), ("XDEL", _COMPLETED, "1"),
    ("HSET", _RESULTS, "f", "v"), ("HSET", _DEAD, "f", "v"), ("HDEL", _PENDING, "f"), ("HDEL", _RESULTS, "f"),
    ("HINCRBY", _TOTALS, "f", 1), ("HINCRBY", contract.WAITING_KEY, "f", 1), ("HSET", contract.RATES_KEY, "f", "v"),
    ("SSCAN", contract.COLLECTIONS_KEY, 0), ("SISMEMBER", contract.PAUSED_KEY, "m"), ("GET", _BLOB),
    ("SET", contract.turn_key("x"), "w", "NX"), ("EXISTS", f"{RQ_KEY_PREFIX}:suspended"), ("CLIENT", "LIST"),
    ("SCRIPT", "EXISTS", _SHA1),
)  # fmt: skip

_EXPORT: tuple[Command, ...] = (
    ("EVALSHA", _SHA1, 2, contract.WAITING_KEY, contract.RATES_KEY), ("HVALS", contract.RATES_KEY),
    ("HGET", contract.WAITING_KEY, "f"), ("HMGET", _JOB, "f"), ("ZRANGE", _WIP, 0, 1), ("LINDEX", _LIST, 0),
    ("HKEYS", contract.WAITING_KEY), ("HMGET", contract.WAITING_KEY, "f"), ("SMEMBERS", contract.PAUSED_KEY),
    ("SMEMBERS", contract.COLLECTIONS_KEY), ("HMGET", _TOTALS, "f"), ("HLEN", _PENDING), ("HLEN", _DEAD),
    ("SMEMBERS", _QUEUES), ("SMEMBERS", _WORKERS), ("HMGET", _WORKER, "f"), ("SCARD", f"{_WORKER}:executions"),
    ("EXISTS", f"{RQ_KEY_PREFIX}:suspended"), ("LLEN", _LIST), ("ZCARD", _WIP), ("ZCOUNT", _WIP, 0, 1),
)  # fmt: skip

COMMANDS: Final[Mapping[Role, tuple[Command, ...]]] = {
    Role.PRODUCER: (*_BASE, *_SUBMIT, *_READ),
    Role.OPERATOR: (*_BASE, *_SUBMIT, *_READ, *_OPERATE),
    Role.WORKER: (*_BASE, *_WORK),
    Role.EXPORTER: (*_BASE, *_EXPORT),
}


def denied(link: Link, role: Role) -> list[str]:
    """What this user may not do of a role's work: commands with their keys; none is run."""
    commands = COMMANDS[role]
    replies = link.call(lambda client: queue_and_discard(client, commands))
    if isinstance(replies[0], NoPermissionError):
        return ["MULTI"]
    return [_shown(command) for command, reply in zip(commands, replies[1:-1], strict=True) if _is_denial(reply)]


def queue_and_discard(client: redis.Redis, commands: tuple[Command, ...]) -> list[Any]:
    """The replies to MULTI, to each command, and to DISCARD; errors as values, and a lost connection raised."""
    sequence: list[Command] = [("MULTI",), *commands, ("DISCARD",)]
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(sequence))
        return [_reply(connection) for _ in sequence]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _reply(connection: Any) -> Any:  # noqa: ANN401  whatever Redis answers
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def _is_denial(reply: object) -> bool:
    return isinstance(reply, NoPermissionError)


def _shown(command: Command) -> str:
    """The command and its first key, or its subcommand."""
    place = {"EVALSHA": 3, "XREAD": 2}.get(str(command[0]), 1)
    return " ".join(map(str, (command[0], *command[place : place + 1])))
