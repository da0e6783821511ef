"""OpenVINO as a contender: `openvino_peer.py NET_FOLDER PICTURES_FOLDER`; float pixels in, made beforehand.

It runs each QDQ form of the net that `to_onnx` has, compiled for each batch size, and takes the fastest one here;
what it compiled to is read from the execution graph. Measured: with weights whose zero point is not 0 it computes
the convolutions in float32; with symmetric ones in Int8.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import openvino
from to_onnx import WEIGHTS, read_graph, to_onnx
from turns import IMAGES, Array, Call, fastest, serve

OPTIONS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
PRODUCTS = ("Convolution", "FullyConnected", "MatMul")


class OpenVino:
    def __init__(self, folder: Path) -> None:
        self.graph = read_graph(folder)
        self.core = openvino.Core()
        self.requests: dict[int, tuple[openvino.InferRequest, dict[str, Any]]] = {}

    def about(self) -> dict[str, Any]:
        return {"name": "OpenVINO", "version": openvino.__version__.split("-")[0]}

    def prepare(self, batch: Array) -> tuple[Call, dict[str, Any]]:
        if len(batch) not in self.requests:
            self.requests[len(batch)] = self._fastest_request(batch)
        request, form = self.requests[len(batch)]
        return lambda: _run(request, batch), form

    def _fastest_request(self, batch: Array) -> tuple[openvino.InferRequest, dict[str, Any]]:
        requests = {f"qdq, {weights} weights": self._request(batch, weights) for weights in WEIGHTS}
        calls = {name: lambda request=request: _run(request, batch) for name, request in requests.items()}
        name, tried = fastest(calls, len(batch))
        return requests[name], {
            "form": f"{name}; {_precisions(requests[name].get_compiled_model())}",
            "tried_ms_per_image": tried,
        }

    def _request(self, batch: Array, weights: Any) -> openvino.InferRequest:
        model = self.core.read_model(to_onnx(self.graph, batch.shape[1:], "qdq", weights), b"")
        model.reshape(list(batch.shape))
        return self.core.compile_model(model, "CPU", OPTIONS).create_infer_request()


def _run(request: openvino.InferRequest, batch: Array) -> Array:
    return request.infer([batch], share_inputs=True, share_outputs=True)[0]


def _precisions(compiled: openvino.CompiledModel) -> str:
    """How many of the layers that multiply run in which precision, as the execution graph says."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    counts = Counter(info["runtimePrecision"].value for info in infos if info["layerType"].value in PRODUCTS)
    return ", ".join(f"{count} layers in {precision}" for precision, count in counts.most_common())


if __name__ == "__main__":
    net_folder, pictures = map(Path, sys.argv[1:])
    serve(lambda: OpenVino(net_folder), pictures / IMAGES)
