"""A relay between a client and a server on Unix sockets, for tests that meddle with what Redis answers."""

from __future__ import annotations

import socket
import threading
from pathlib import Path


class UnixRelay:
    """Hands requests and answers on as they are; a subclass changes `answer`."""

    def __init__(self, listen: Path, server: Path) -> None:
        self.url = f"unix://{listen}"
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def answer(self, request: bytes, upstream: socket.socket) -> bytes | None:
        """What the client gets for a request that the server has; None hangs up."""
        return upstream.recv(1 << 20)

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()
        except OSError:
            return

    def _relay(self, client: socket.socket) -> None:
        """Requests here are small: one is read at once, and so is its answer."""
        with client, socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self._server))
            while request := client.recv(1 << 20):
                try:
                    upstream.sendall(request)
                except BrokenPipeError:  # it was restarted
                    return
                answer = self.answer(request, upstream)
                if answer is None:
                    return
                client.sendall(answer)
