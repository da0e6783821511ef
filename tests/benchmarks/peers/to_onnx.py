"""An Int8 Caffe2 net as an ONNX model: the same bytes, zero points, scales and int32 biases, N C H W.

Two forms of one net: `qdq` surrounds float operators with QuantizeLinear and DequantizeLinear, `qoperator` has one
operator for each of ours (ONNX's QLinearConv and ONNX Runtime's own). Weights stay uint8 or are shifted to int8, zero
point included: the same numbers, but runtimes have other kernels for them. `symmetric` is for runtimes that are faster
with zero point 0: `w - zero_point` clipped to int8, which changes the few weights beyond it.

Without VNNI the kernels for int8 weights saturate sums of two products. Measured with AVX2 on 200 photographs, the
zoo's net: the best class is ours on 196 with uint8 weights, on 190 with int8, on 187 (OpenVINO: 186) with symmetric.

The input is the float image that Caffe2's Int8Quantize would get; the output is the float softmax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from imagequeue_worker.caffe2.errors import UnsupportedOperator
from imagequeue_worker.caffe2.geometry import Window, read_window
from imagequeue_worker.caffe2.graph import Graph, Node, build_graph
from imagequeue_worker.caffe2.netdef import read_net
from imagequeue_worker.caffe2.tensor import TensorSpec

Form = Literal["qdq", "qoperator"]
Weights = Literal["uint8", "int8", "symmetric"]
FORMS: tuple[Form, ...] = ("qdq", "qoperator")
WEIGHTS: tuple[Weights, ...] = ("uint8", "int8", "symmetric")
INPUT, OUTPUT, BATCH = "image", "probabilities", "N"
OPSET, MICROSOFT = 21, "com.microsoft"


def read_graph(folder: Path) -> Graph:
    """The two files of a net, joined and checked as our engines see them."""
    init, predict = (read_net((folder / f"{name}_net.pb").read_bytes()) for name in ("init", "predict"))
    return build_graph(init, predict)


def to_onnx(graph: Graph, shape: tuple[int, int, int], form: Form, weights: Weights) -> bytes:
    """Convert a net for images of this shape (C, H, W); the batch stays open.

    Raises UnsupportedOperator for operators beyond convolution, FC, add, average pool, relu and softmax.
    """
    writer = {"qdq": QdqWriter, "qoperator": QOperatorWriter}[form](graph, weights)
    last = writer.write()
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [BATCH, *shape])
    result = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    body = helper.make_graph(writer.nodes, graph.name or "net", [image], [result], writer.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(body, opset_imports=opsets, ir_version=10)
    ).SerializeToString()


class Writer:
    """Walks the graph; subclasses say how a quantized operator looks."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph, self.weights = graph, weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.specs: dict[int, TensorSpec] = dict(graph.constants)
        self.blobs: dict[int, str] = {}
        self.readers = [slot for node in graph.body for slot in node.inputs]

    def write(self) -> str:
        """Write all nodes; return the name of the last blob."""
        self._quantize_input()
        for node in self.graph.body:
            kind = node.args.op_type
            write = self._handlers().get(kind.removesuffix("Relu") if kind != "Int8Relu" else kind)
            if write is None:
                raise UnsupportedOperator(kind, self._handlers(), node.args.where)
            write(node)
        return self.blobs[self.graph.body[-1].outputs[0]]

    def _handlers(self) -> dict[str, Callable[[Node], None]]:
        return {
            "Int8Conv": self._conv,
            "Int8FC": self._fully_connected,
            "Int8Add": self._add,
            "Int8Sum": self._add,
            "Int8AveragePool": self._average_pool,
            "Int8Relu": self._relu,
            "Int8Softmax": self._softmax,
            "Int8Dequantize": self._dequantize,
        }

    def _quantize_input(self) -> None:
        quantize = self.graph.prelude[-1]
        spec = self._declare(quantize)
        self.blobs[quantize.outputs[0]] = self.emit("QuantizeLinear", INPUT, *self.parameters(spec))

    def _declare(self, node: Node) -> TensorSpec:
        """Note what the node promises for its output."""
        spec = TensorSpec("int8", (), *node.args.output_quantization())
        self.specs[node.outputs[0]] = spec
        return spec

    def emit(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def parameters(self, spec: TensorSpec) -> tuple[str, str]:
        """Scale and zero point of a blob of bytes."""
        return self.constant(np.float32(spec.scale)), self.constant(np.uint8(spec.zero_point))

    def weight_bytes(self, spec: TensorSpec, axes: Sequence[int]) -> tuple[str, str, str]:
        """Weights, scale, zero point: as they are, shifted to int8, or made symmetric."""
        data, zero_point = spec.constant.transpose(axes), np.uint8(spec.zero_point)
        if self.weights == "int8":
            data, zero_point = (data.astype(np.int16) - 128).astype(np.int8), np.int8(spec.zero_point - 128)
        elif self.weights == "symmetric":
            data, zero_point = np.clip(data.astype(np.int16) - spec.zero_point, -128, 127).astype(np.int8), np.int8(0)
        return self.constant(data), self.constant(np.float32(spec.scale)), self.constant(zero_point)

    def bias_scale(self, x: TensorSpec, w: TensorSpec) -> np.float32:
        return np.float32(x.scale) * np.float32(w.scale)

    def clips(self, node: Node) -> bool:
        """Whether the node's Relu does more than bytes do by themselves, which stop at 0."""
        return node.args.op_type.endswith("Relu") and self.specs[node.outputs[0]].zero_point > 0

    def _relu(self, node: Node) -> None:
        (source,), (target,) = node.inputs, node.outputs
        spec = self.specs[target] = self.specs[source]
        name = self.blobs[source]
        self.blobs[target] = (
            self.emit("Max", name, self.constant(np.uint8(spec.zero_point))) if spec.zero_point else name
        )

    def _dequantize(self, node: Node) -> None:
        (source,), (target,) = node.inputs, node.outputs
        self.blobs[target] = self.blobs[source]  # the softmax is float already

    def _softmax(self, node: Node) -> None:
        source = node.inputs[0]
        name = self.emit("DequantizeLinear", self.blobs[source], *self.parameters(self.specs[source]))
        self.specs[node.outputs[0]] = TensorSpec("float", ())
        self.blobs[node.outputs[0]] = self.emit("Softmax", name, axis=1)

    def _conv(self, node: Node) -> None:
        raise NotImplementedError

    def _fully_connected(self, node: Node) -> None:
        raise NotImplementedError

    def _add(self, node: Node) -> None:
        raise NotImplementedError

    def _average_pool(self, node: Node) -> None:
        raise NotImplementedError


def _window_attributes(window: Window) -> dict[str, Any]:
    return {"kernel_shape": window.kernel, "strides": window.stride, "pads": window.pads}


class QdqWriter(Writer):
    """Float operators between DequantizeLinear and QuantizeLinear."""

    def real(self, slot: int) -> str:
        """A blob's real values; a DequantizeLinear for each reader, as runtimes look for it."""
        return self.emit("DequantizeLinear", self.blobs[slot], *self.parameters(self.specs[slot]))

    def quantized(self, node: Node, name: str) -> None:
        """The node's bytes of its real values."""
        spec = self._declare(node)
        name = self.emit("Relu", name) if self.clips(node) else name
        self.blobs[node.outputs[0]] = self.emit("QuantizeLinear", name, *self.parameters(spec))

    def _weights(self, node: Node, axes: Sequence[int]) -> tuple[str, str]:
        x, w, b = (self.specs[slot] for slot in node.inputs)
        scale, zero = self.constant(self.bias_scale(x, w)), self.constant(np.int32(0))
        bias = self.emit("DequantizeLinear", self.constant(b.constant), scale, zero)
        return self.emit("DequantizeLinear", *self.weight_bytes(w, axes)), bias

    def _conv(self, node: Node) -> None:
        window, group = read_window(node.args), node.args.integer("group", 1)
        operands = (self.real(node.inputs[0]), *self._weights(node, (0, 3, 1, 2)))
        attributes = {**_window_attributes(window), "dilations": window.dilation, "group": group}
        self.quantized(node, self.emit("Conv", *operands, **attributes))

    def _fully_connected(self, node: Node) -> None:
        flat = self.emit("Flatten", self.real(node.inputs[0]))
        self.quantized(node, self.emit("Gemm", flat, *self._weights(node, (0, 1)), transB=1))

    def _add(self, node: Node) -> None:
        self.quantized(node, self.emit("Add", *(self.real(slot) for slot in node.inputs)))

    def _average_pool(self, node: Node) -> None:
        source = self.real(node.inputs[0])
        if node.args.integer("global_pooling", 0):
            self.quantized(node, self.emit("GlobalAveragePool", source))
        else:
            attributes = _window_attributes(read_window(node.args))
            self.quantized(node, self.emit("AveragePool", source, count_include_pad=1, **attributes))


class QOperatorWriter(Writer):
    """One quantized operator for each of ours."""

    def quantized(self, node: Node, name: str) -> None:
        """Note the node's bytes."""
        if self.clips(node):
            name = self.emit("Max", name, self.constant(np.uint8(self.specs[node.outputs[0]].zero_point)))
        self.blobs[node.outputs[0]] = name

    def operand(self, slot: int) -> tuple[str, str, str]:
        """A blob's bytes, scale, zero point."""
        return (self.blobs[slot], *self.parameters(self.specs[slot]))

    def _conv(self, node: Node) -> None:
        window, group = read_window(node.args), node.args.integer("group", 1)
        operands = (*self.operand(node.inputs[0]), *self.weight_bytes(self.specs[node.inputs[1]], (0, 3, 1, 2)))
        bias = self.constant(self.specs[node.inputs[2]].constant)
        attributes = {**_window_attributes(window), "dilations": window.dilation, "group": group}
        result = self.parameters(self._declare(node))
        self.quantized(node, self.emit("QLinearConv", *operands, *result, bias, **attributes))

    def _fully_connected(self, node: Node) -> None:
        x, *parameters = self.operand(node.inputs[0])
        weights = self.weight_bytes(self.specs[node.inputs[1]], (0, 1))
        bias = self.constant(self.specs[node.inputs[2]].constant)
        operands = (self.emit("Flatten", x), *parameters, *weights, bias, *self.parameters(self._declare(node)))
        self.quantized(node, self.emit("QGemm", *operands, domain=MICROSOFT, transB=1))

    def _add(self, node: Node) -> None:
        operands = [name for slot in node.inputs for name in self.operand(slot)]
        result = self.parameters(self._declare(node))
        self.quantized(node, self.emit("QLinearAdd", *operands, *result, domain=MICROSOFT))

    def _average_pool(self, node: Node) -> None:
        operands = (*self.operand(node.inputs[0]), *self.parameters(self._declare(node)))
        if node.args.integer("global_pooling", 0):
            name = self.emit("QLinearGlobalAveragePool", *operands, domain=MICROSOFT, channels_last=0)
        else:
            attributes = _window_attributes(read_window(node.args))
            name = self.emit("QLinearAveragePool", *operands, domain=MICROSOFT, count_include_pad=1, **attributes)
        self.quantized(node, name)
