"""As much of `redis-cli` as CONTRACT.md needs, where the real one is not installed: `-x`, and plain replies."""

from __future__ import annotations

import os
import sys

import redis


def lines(reply: object) -> list[bytes]:
    """A reply as redis-cli prints it into a pipe."""
    if isinstance(reply, list | tuple):
        return [line for part in reply for line in lines(part)]
    if isinstance(reply, dict):
        return [line for pair in reply.items() for line in lines(pair)]
    return [reply if isinstance(reply, bytes) else b"" if reply is None else str(reply).encode()]


def main() -> None:
    arguments: list[str | bytes] = list(sys.argv[1:])
    if arguments[0] == "-x":
        arguments = [*arguments[1:], sys.stdin.buffer.read()]
    with redis.Redis.from_url(os.environ["IMAGEQUEUE_REDIS_URL"], protocol=2, socket_timeout=90) as client:
        client.response_callbacks.clear()
        for line in lines(client.execute_command(*arguments)):
            sys.stdout.buffer.write(line + b"\n")


if __name__ == "__main__":
    main()
