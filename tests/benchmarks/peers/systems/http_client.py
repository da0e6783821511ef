"""A lean HTTP client for servers that batch: kept connections, so many requests at once, one event loop."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Sequence
from contextlib import closing

CONNECTIONS = 64


class HttpClient:
    """POST bodies to one path of a server on this machine."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._own = threading.local()

    def post_all(self, bodies: Sequence[bytes]) -> list[bytes]:
        """The answers to all, in order; raises RuntimeError when one is not 200."""
        return asyncio.run(self._post_all(bodies))

    async def _post_all(self, bodies: Sequence[bytes]) -> list[bytes]:
        answers = [b""] * len(bodies)
        waiting = iter(enumerate(bodies))

        async def one_connection() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            with closing(writer):
                for number, body in waiting:
                    writer.write(self._head(len(body)) + body)
                    answers[number] = await _read_answer(reader)

        await asyncio.gather(*(one_connection() for _ in range(min(CONNECTIONS, len(bodies)))))
        return answers

    def _head(self, length: int) -> bytes:
        kind = "Content-Type: application/json"
        return f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n\r\n".encode()

    def post(self, body: bytes) -> bytes:
        """The answer to one, on this thread's own connection."""
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection("127.0.0.1", self._port)
        self._own.connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = self._own.connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {data[:200]!r}")
        return data

    def is_up(self) -> bool:
        """Whether somebody listens."""
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


async def _read_answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if " 200" not in lines[0]:
        raise RuntimeError(f"{lines[0]}: {body[:200]!r}")
    return body
