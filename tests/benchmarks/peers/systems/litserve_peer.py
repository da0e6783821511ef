"""LitServe: an HTTP server (FastAPI) that gathers requests to batches for its worker processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import litserve
from classifier import classifier
from far_end import System, serve, setup, until
from http_client import HttpClient


class Inference(litserve.LitAPI):
    """Paths in, best classes out; read, decoded and classified here."""

    def setup(self, device: str) -> None:
        classifier()

    def decode_request(self, request: dict[str, str]) -> str:
        return request["ref"]

    def predict(self, x: list[str] | str) -> list[int] | int:
        if isinstance(x, str):  # without batches
            return classifier().best_classes([x])[0]
        return classifier().best_classes(x)

    def unbatch(self, output: list[int]) -> list[int]:
        return output

    def encode_response(self, output: int) -> dict[str, int]:
        return {"best": output}


class LitServe(System):
    def __init__(self) -> None:
        super().__init__()
        self.client = HttpClient(setup()["port"], "/predict")

    def start(self, workers: int) -> None:
        self.run(sys.executable, "-c", f"import litserve_peer; litserve_peer.serve_http({workers})")
        until(self.client.is_up, self)

    def classify(self, refs: Sequence[str]) -> list[int]:
        answers = self.client.post_all([json.dumps({"ref": ref}).encode() for ref in refs])
        return [json.loads(answer)["best"] for answer in answers]

    def classify_one(self, ref: str) -> int:
        return json.loads(self.client.post(json.dumps({"ref": ref}).encode()))["best"]


def serve_http(workers: int) -> None:
    """Be the server: batches of 8 where batches are asked for, waited for 5 ms; its fast queue (ZeroMQ)."""
    batches = {"max_batch_size": 8, "batch_timeout": 0.005} if setup()["batches"] else {}
    server = litserve.LitServer(
        Inference(**batches), accelerator="cpu", workers_per_device=workers, timeout=False, fast_queue=True
    )
    server.run(host="127.0.0.1", port=setup()["port"], num_api_servers=1, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    serve(LitServe())
