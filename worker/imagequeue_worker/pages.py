"""The pages of a command that serves metrics: /metrics, /livez, /readyz."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from imagequeue_worker.probes import Ask, Probe

CLIENT_SECONDS = 10.0  # that a client may be silent: nobody holds a thread for ever

_TEXT = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, ANN401  http.server's signature
        """Log nothing: a scrape every few seconds is no event."""


def serve_pages(host: str, port: int, registry: CollectorRegistry, probes: Mapping[Probe, Ask]) -> WSGIServer:
    """Serve them from a thread; raise OSError when the address cannot be had. Port 0 takes a free one."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    kind = type("_Server", (ThreadingWSGIServer,), {"address_family": family})
    server: WSGIServer = make_server(host, port, pages(registry, probes), kind, _Handler)
    threading.Thread(target=server.serve_forever, name="pages", daemon=True).start()
    return server


def pages(registry: CollectorRegistry, probes: Mapping[Probe, Ask]) -> WSGIApplication:
    """The application: which path shows what."""
    asked: dict[str, Ask] = {probe.path: ask for probe, ask in probes.items()}
    metrics: Callable[[dict[str, Any], StartResponse], Iterable[bytes]] = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path in ("/", "/metrics"):
            return metrics(environ, start_response)
        if path not in asked:
            start_response("404 Not Found", list(_TEXT))
            return [b"there are /metrics, /livez and /readyz\n"]
        problem = asked[path]()
        start_response("200 OK" if problem is None else "503 Service Unavailable", list(_TEXT))
        return [f"{problem or 'ok'}\n".encode()]

    return application
