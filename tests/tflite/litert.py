"""LiteRT, which TensorFlow Lite is called today, as the judge: its three sets of kernels, and every tensor."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

# XNNPACK's (the default): one rounding, in float32. TFLite's own with ruy: two, ties of the second upwards.
# TFLite's reference: two, ties away from zero, as QNNPACK and Caffe2.
DEFAULT, OWN, REFERENCE = "AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "BUILTIN_REF"


class LiteRT:
    """A .tflite net on one thread."""

    def __init__(self, data: bytes, kernels: str, *, keep: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # keeping every tensor needs memory, it says
            self._net: Any = Interpreter(
                model_content=data,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType[kernels],
                experimental_preserve_all_tensors=keep,
            )
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]

    def run(self, picture: Bytes) -> Bytes:
        """Probabilities times 256, of one picture [H, W, C]."""
        self._net.set_tensor(self._input, picture[np.newaxis])
        self._net.invoke()
        return self.tensor(self._output)[0]

    def tensor(self, number: int) -> Bytes:
        tensor: Bytes = self._net.get_tensor(number)
        return tensor
