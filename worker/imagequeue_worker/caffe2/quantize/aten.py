"""From ATen nodes to layers: what each operator of an exported model means, and which are refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.tensor import Array

from .errors import InvalidModel, UnsupportedLayer
from .layers import Activation, Add, BatchNorm, Clip, Conv, FloatNet, Layer, Linear, Pad, Pool


@dataclass(frozen=True)
class Node:
    """One operator of an ATen graph; other nodes are named in its arguments. `path`: the module it belongs to."""

    name: str
    operator: str
    args: dict[str, Any]
    path: str = ""

    @property
    def where(self) -> str:
        """For messages."""
        return self.path or self.name

    def refuse(self, what: str) -> UnsupportedLayer:
        """Make (not raise) the error for this node."""
        return UnsupportedLayer(self.operator, self.where, what)


@dataclass(frozen=True)
class Nodes:
    """An ATen graph with its weights (float64) and the shape of every node, batch first."""

    input: str
    output: str
    nodes: tuple[Node, ...]
    weights: dict[str, Array] = field(repr=False)
    shapes: dict[str, tuple[int, ...]]

    @property
    def ends_in_softmax(self) -> bool:
        """Whether the model's output are probabilities already."""
        return any(node.name == self.output and node.operator.startswith("softmax") for node in self.nodes)


def read_layers(graph: Nodes) -> FloatNet:
    """Translate a graph, leaving batch norms, paddings and activations where they are.

    Raises:
        UnsupportedLayer: An operator, or a form of it, that Int8 Caffe2 nets cannot have.
        InvalidModel: The image or the logits have an impossible shape.
    """
    shape = graph.shapes[graph.input]
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InvalidModel(f"the model's input has shape {list(shape)}; must be [N, 1 or 3, height, width]")
    reader = _Reader(graph)
    for node in graph.nodes:
        reader.read(node)
    output = reader.source(graph.output)
    layers = reader.layers[: 1 + next((i for i, layer in enumerate(reader.layers) if layer.name == output), -1)]
    if not layers or np.prod(graph.shapes[graph.output]) != graph.shapes[graph.output][-1]:
        raise InvalidModel(f"the model's output has shape {list(graph.shapes[graph.output])}; must be [N, classes]")
    return FloatNet(graph.input, (shape[2], shape[3], shape[1]), tuple(layers))


class _Reader:
    """Collects layers; keeps under which blob's name each node's value is known."""

    def __init__(self, graph: Nodes) -> None:
        self.graph = graph
        self.layers: list[Layer] = []
        self.blobs = {graph.input: graph.input}
        self.shapes = {graph.input: graph.shapes[graph.input]}
        self.taken = {graph.input}

    def read(self, node: Node) -> None:
        """Translate one node."""
        operator = node.operator.split(".")[0].rstrip("_")
        if operator in _PASS_THROUGH:
            self.pass_on(node, self.source(node.args[_PASS_THROUGH[operator]]))
            return
        if operator not in _READERS:
            raise node.refuse(self.explain(node, operator))
        layer = _READERS[operator](self, node)
        self.layers.append(layer)
        self.blobs[node.name] = layer.name
        self.shapes[layer.name] = self.graph.shapes[node.name]

    def pass_on(self, node: Node, source: str) -> None:
        """Know a node's value under the blob that it only looks at in another way."""
        _refuse_training(node)
        before, after = self.shapes[source], self.graph.shapes[node.name]
        if len(after) != 2 and [n for n in before if n > 1] != [n for n in after if n > 1]:
            raise node.refuse(f"brings {list(before)} into the shape {list(after)}; pictures can only be flattened")
        if node.operator.startswith("softmax") and node.name != self.graph.output:
            raise node.refuse("a softmax can only stand at the end")
        self.blobs[node.name] = source

    def source(self, name: object) -> str:
        """The blob that holds a node's value."""
        if not isinstance(name, str) or name not in self.blobs:
            raise InvalidModel(f"{name} is used as a picture and is none; only the model's input can be one")
        return self.blobs[name]

    def named(self, node: Node, *inputs: str) -> dict[str, Any]:
        """Name and inputs of the layer that a node becomes: its module's path where that is free."""
        name = node.path if node.path and node.path not in self.taken else node.name
        self.taken.add(name)
        return {"name": name, "inputs": tuple(self.source(node.args[key]) for key in inputs)}

    def weights(self, node: Node, key: str, default: Array | None = None) -> Array:
        """A parameter of a node."""
        name = node.args.get(key)
        if name is None and default is not None:
            return default
        if name not in self.graph.weights:
            raise node.refuse(f"its {key} is computed, not a parameter")
        return self.graph.weights[name]

    def explain(self, node: Node, operator: str) -> str:
        """Why an operator is refused, in the words that its author would use."""
        if operator in ("sigmoid", "hardsigmoid", "mul"):
            gates = [self.graph.shapes.get(name, ()) for name in (node.name, *map(str, node.args.values()))]
            if any(len(shape) == 4 and shape[2:] == (1, 1) for shape in gates):
                return "squeeze-and-excitation has no Int8 form"
            return "swish and other products of two blobs have no Int8 form"
        return _WHAT.get(operator, "has no Int8 form")


def _conv(reader: _Reader, node: Node) -> Conv:
    weights = np.ascontiguousarray(reader.weights(node, "weight").transpose(0, 2, 3, 1))
    if node.args.get("transposed"):
        raise node.refuse("transposed convolutions are not exported")
    kernel = (weights.shape[1], weights.shape[2])
    stride, dilation = _pair(node.args["stride"]), _pair(node.args["dilation"])
    padding = node.args["padding"]
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pads = (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    else:
        vertical, horizontal = (0, 0) if padding == "valid" else _pair(padding)
        pads = (vertical, horizontal, vertical, horizontal)
    return Conv(
        **reader.named(node, "input"),
        weights=weights,
        bias=reader.weights(node, "bias", np.zeros(len(weights))),
        window=Window(kernel, stride, pads, dilation),
        group=int(node.args["groups"]),
    )


def _linear(reader: _Reader, node: Node) -> Linear:
    weights = reader.weights(node, "weight")
    named = reader.named(node, "input")
    # A picture flattened by PyTorch is C, H, W; by Caffe2, H, W, C.
    shape = reader.shapes[named["inputs"][0]]
    if len(reader.graph.shapes[node.args["input"]]) != 2:
        raise node.refuse("is given pictures; flatten them first, or write it as a 1x1 convolution")
    if len(shape) == 4:
        weights = weights.reshape(-1, *shape[1:]).transpose(0, 2, 3, 1).reshape(len(weights), -1)
    bias = reader.weights(node, "bias", np.zeros(len(weights)))
    return Linear(**named, weights=np.ascontiguousarray(weights), bias=bias)


def _batch_norm(reader: _Reader, node: Node) -> BatchNorm:
    _refuse_training(node)
    mean, variance = reader.weights(node, "running_mean"), reader.weights(node, "running_var")
    gamma, beta = reader.weights(node, "weight", np.ones_like(mean)), reader.weights(node, "bias", np.zeros_like(mean))
    factor = gamma / np.sqrt(variance + node.args["eps"])
    return BatchNorm(**reader.named(node, "input"), factor=factor, shift=beta - mean * factor)


def _refuse_training(node: Node) -> None:
    if node.args.get("training") or node.args.get("train"):
        raise InvalidModel(f"{node.where} is in training mode; call model.eval() before torch.export")


def _activation(reader: _Reader, node: Node) -> Activation:
    low, high = {"relu": (0, None), "relu6": (0, 6)}.get(
        node.operator.split(".")[0].rstrip("_"),
        (node.args.get("min_val", node.args.get("min")), node.args.get("max_val", node.args.get("max"))),
    )
    clips: dict[tuple[object, object], Clip] = {(0, None): "relu", (0, 6): "relu6"}
    if (low, high) not in clips:
        raise node.refuse(f"clips to {low} ... {high}; only ReLU and ReLU6 are exported")
    return Activation(**reader.named(node, "self" if "self" in node.args else "input"), clip=clips[low, high])


def _add(reader: _Reader, node: Node) -> Add:
    a, b = node.args["self"], node.args["other"]
    if node.args.get("alpha", 1) != 1 or b not in reader.blobs or a not in reader.blobs:
        raise node.refuse("adds something else than two blobs; a constant can go into a bias")
    if reader.graph.shapes[a] != reader.graph.shapes[b]:
        raise node.refuse(f"adds {list(reader.graph.shapes[a])} and {list(reader.graph.shapes[b])}; must be equal")
    return Add(**reader.named(node, "self", "other"))


def _pool(reader: _Reader, node: Node) -> Pool:
    kind = "max" if node.operator.startswith("max") else "average"
    kernel, pad = _pair(node.args["kernel_size"]), _pair(node.args["padding"])
    stride = _pair(node.args["stride"]) if node.args["stride"] else kernel
    if _pair(node.args.get("dilation", 1)) != (1, 1) or node.args.get("divisor_override"):
        raise node.refuse("pooling with dilation or a divisor of its own is not exported")
    source, result = reader.graph.shapes[node.args["self"]], reader.graph.shapes[node.name]
    # Rounding sizes up is the same as more padding at the bottom and on the right.
    ends = [
        max(p, (out - 1) * s + k - size - p)
        for p, out, s, k, size in zip(pad, result[2:], stride, kernel, source[2:], strict=True)
    ]
    padded = any(pad) or any(e > p for e, p in zip(ends, pad, strict=True))
    ceil = any(e > p for e, p in zip(ends, pad, strict=True))
    if kind == "average" and (ceil or (padded and not node.args.get("count_include_pad", True))):
        raise node.refuse("an average without its padding is not exported; use count_include_pad=True, ceil_mode=False")
    window = Window(kernel, stride, (*pad, ends[0], ends[1]))
    return Pool(**reader.named(node, "self"), kind=kind, window=window)


def _global_pool(reader: _Reader, node: Node) -> Pool:
    size = node.args.get("output_size")
    dims = sorted(dim % 4 for dim in node.args.get("dim") or ())
    if (size is not None and _pair(size) != (1, 1)) or (size is None and dims != [2, 3]):
        raise node.refuse("only the average over the whole picture is exported")
    return Pool(**reader.named(node, "self"), kind="average")


def _pad(reader: _Reader, node: Node) -> Pad:
    left, right, top, bottom = (*node.args["pad"], 0, 0, 0, 0)[:4]
    mode, value = node.args.get("mode", "constant"), node.args.get("value") or 0
    if mode != "constant" or value != 0 or min(left, right, top, bottom) < 0 or len(node.args["pad"]) > 4:
        raise node.refuse("only padding with zeros is exported")
    return Pad(**reader.named(node, "self"), pads=(top, left, bottom, right))


def _pair(value: Any) -> tuple[int, int]:  # noqa: ANN401
    values = (value,) if isinstance(value, int) else tuple(value)
    return (int(values[0]), int(values[-1])) if values else (0, 0)


_READERS: dict[str, Callable[[_Reader, Node], Layer]] = {
    "conv2d": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _activation,
    "relu6": _activation,
    "hardtanh": _activation,
    "clamp": _activation,
    "add": _add,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "adaptive_avg_pool2d": _global_pool,
    "mean": _global_pool,
    "pad": _pad,
    "constant_pad_nd": _pad,
}

# Operators that change no value, and which argument they pass on. A softmax at the end is Int8Softmax.
_PASS_THROUGH = {
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "contiguous", "clone", "alias", "detach", "softmax"), "self"
    ),
    **dict.fromkeys(("dropout", "feature_dropout"), "input"),
}

_WHAT = {
    "silu": "swish (SiLU) has no Int8 form",
    "hardswish": "hard swish has no Int8 form",
    "gelu": "GELU has no Int8 form",
    "sub": "arithmetic on pixels belongs into --mean and --std",
    "div": "arithmetic on pixels belongs into --mean and --std",
    "cat": "concatenation is not exported",
    "layer_norm": "layer norm has no Int8 form",
    "group_norm": "group norm has no Int8 form",
    "prelu": "PReLU has no Int8 form",
    "leaky_relu": "leaky ReLU is not exported",
    "scaled_dot_product_attention": "attention has no Int8 form",
}
