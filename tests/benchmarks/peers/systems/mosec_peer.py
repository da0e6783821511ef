"""mosec: an HTTP server that gathers requests to batches for its worker processes; no queue that outlives it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from classifier import classifier
from far_end import System, serve, setup, until
from http_client import HttpClient
from mosec import Server, Worker


class Inference(Worker):
    """Paths in, best classes out; read, decoded and classified here."""

    def __init__(self) -> None:
        super().__init__()
        classifier()

    def deserialize(self, data: bytes) -> str:
        return data.decode()

    def forward(self, data: list[str] | str) -> list[int] | int:
        if isinstance(data, str):  # mosec without batches
            return classifier().best_classes([data])[0]
        return classifier().best_classes(data)

    def serialize(self, data: int) -> bytes:
        return str(data).encode()


class Mosec(System):
    def __init__(self) -> None:
        super().__init__()
        self.client = HttpClient(setup()["port"], "/inference")

    def start(self, workers: int) -> None:
        code = f"import mosec_peer; mosec_peer.serve_http({workers})"
        self.run(sys.executable, "-c", code, "--port", str(setup()["port"]), "--timeout", "120000")
        until(self.client.is_up, self)

    def classify(self, refs: Sequence[str]) -> list[int]:
        return [int(answer) for answer in self.client.post_all([ref.encode() for ref in refs])]

    def classify_one(self, ref: str) -> int:
        return int(self.client.post(ref.encode()))


def serve_http(workers: int) -> None:
    """Be the server: batches of 8 where batches are asked for, waited for 5 ms; else each request by itself."""
    batches = {"max_batch_size": 8, "max_wait_time": 5} if setup()["batches"] else {}
    server = Server()
    server.append_worker(Inference, num=workers, **batches)
    server.run()


if __name__ == "__main__":
    serve(Mosec())
