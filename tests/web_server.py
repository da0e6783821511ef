"""Web servers for tests: real sockets on loopback, each path of which behaves as it is told."""

import socket
import socketserver
import threading
from contextlib import contextmanager

# What workers may reach in these tests, as if it were public; the rest of loopback is forbidden to them.
PUBLIC, FORBIDDEN = "127.0.0.2", "127.0.0.1"


class WebServer:
    """`answers`: path -> function(request) that writes to request.wfile; requests are kept, connections counted."""

    def __init__(self, address, answers, context=None, port=0):
        self.answers = answers
        self.requests = []
        self.connections = 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                outer.connections += 1
                try:
                    while line := self.rfile.readline():
                        self.head = {}
                        while (header := self.rfile.readline().strip()) != b"":
                            name, _, value = header.decode("latin-1").partition(":")
                            self.head[name.lower()] = value.strip()
                        self.path = line.split()[1].decode()
                        outer.requests.append(self)
                        answer = outer.answers.get(self.path.partition("?")[0], not_there)
                        if not answer(self):
                            return
                except OSError:
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

            def get_request(self):
                connection, peer = super().get_request()
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                return connection, peer

            def handle_error(self, request, client_address):
                pass

        self._server = Server((address, port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if context else 'http'}://{address}:{self.port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def body(data, status="200 OK", **headers):
    """A whole answer, after which the connection is kept."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

    def answer(request):
        request.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + data)
        return True

    return answer


def redirect(location, status="302 Found"):
    return body(b"", status, Location=location)


def raw(*pieces, pause_seconds=0.0, repeat=1):
    """Bytes as they are, then the connection is closed."""

    def answer(request):
        for _ in range(repeat):
            for piece in pieces:
                request.wfile.write(piece)
                if pause_seconds:
                    threading.Event().wait(pause_seconds)
        return False

    return answer


def for_ever(first, then, pause_seconds=0.0):
    """Bytes, and then more of them until the client has had enough."""
    return raw(first, *[then] * 1000, pause_seconds=pause_seconds, repeat=10**6)


def silence(request):
    """No answer at all, until the client has had enough."""
    request.connection.recv(1)
    return False


not_there = body(b"gone", "404 Not Found")


@contextmanager
def listener(*addresses):
    """Sockets that nobody may connect to: a list that gets an entry for each connection, and the port they share."""
    met = []
    with socket.create_server((addresses[0], 0), backlog=128) as first:
        port = first.getsockname()[1]
        others = [
            socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
            for address in addresses[1:]
        ]
        for server in (first, *others):
            threading.Thread(target=_accept, args=(server, met), daemon=True).start()
        try:
            yield met, port
        finally:
            for server in others:
                server.close()


def _accept(server, met):
    while True:
        try:
            connection, peer = server.accept()
        except OSError:
            return
        met.append(peer)
        connection.close()
