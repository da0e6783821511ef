"""ONNX Runtime as a contender: `onnxruntime_peer.py NET_FOLDER PICTURES_FOLDER`; float pixels in, made beforehand.

It runs each form of the net that `to_onnx` has, a session for each batch size, and takes the fastest one here.
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Any

import onnxruntime
from to_onnx import BATCH, FORMS, INPUT, WEIGHTS, read_graph, to_onnx
from turns import IMAGES, Array, Call, fastest, serve


class OnnxRuntime:
    def __init__(self, folder: Path) -> None:
        self.graph = read_graph(folder)
        self.sessions: dict[int, tuple[onnxruntime.InferenceSession, dict[str, Any]]] = {}

    def about(self) -> dict[str, Any]:
        return {"name": "ONNX Runtime", "version": onnxruntime.__version__}

    def prepare(self, batch: Array) -> tuple[Call, dict[str, Any]]:
        if len(batch) not in self.sessions:
            self.sessions[len(batch)] = self._fastest_session(batch)
        session, form = self.sessions[len(batch)]
        return lambda: session.run(None, {INPUT: batch})[0], form

    def _fastest_session(self, batch: Array) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
        sessions = {
            f"{form}, {weights} weights": self._session(batch, form, weights)
            for form, weights in product(FORMS, WEIGHTS)
        }
        calls = {name: lambda session=session: session.run(None, {INPUT: batch}) for name, session in sessions.items()}
        name, tried = fastest(calls, len(batch))
        return sessions[name], {"form": name, "tried_ms_per_image": tried}

    def _session(self, batch: Array, form: Any, weights: Any) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name(BATCH, len(batch))
        model = to_onnx(self.graph, batch.shape[1:], form, weights)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    net_folder, pictures = map(Path, sys.argv[1:])
    serve(lambda: OnnxRuntime(net_folder), pictures / IMAGES)
