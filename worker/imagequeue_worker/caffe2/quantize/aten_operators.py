"""What each ATen operator means: one function for each kind, from a node to a layer; forms beyond Int8 are refused."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.tensor import Array

from .errors import InvalidModel
from .layers import Activation, Add, BatchNorm, Clip, Conv, Layer, Linear, Pad, Pool
from .nodes import Node, Nodes


class Reader:
    """What a node's reader may ask: which blobs, weights and shapes there are.

    Attributes:
        blobs: Under which blob's name each node's value is known.
        shapes: Of the blobs, batch first, as PyTorch has them.
    """

    def __init__(self, graph: Nodes) -> None:
        self.graph = graph
        self.blobs = {graph.input: graph.input}
        self.shapes = {graph.input: graph.shapes[graph.input]}
        self.taken = {graph.input}

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


def _conv(reader: Reader, node: Node) -> Conv:
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


def _linear(reader: Reader, node: Node) -> Linear:
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


def _batch_norm(reader: Reader, node: Node) -> BatchNorm:
    mean, variance = reader.weights(node, "running_mean"), reader.weights(node, "running_var")
    gamma, beta = reader.weights(node, "weight", np.ones_like(mean)), reader.weights(node, "bias", np.zeros_like(mean))
    factor = gamma / np.sqrt(variance + node.args["eps"])
    return BatchNorm(**reader.named(node, "input"), factor=factor, shift=beta - mean * factor)


def _activation(reader: Reader, node: Node) -> Activation:
    low, high = {"relu": (0, None), "relu6": (0, 6)}.get(
        node.kind,
        (node.args.get("min_val", node.args.get("min")), node.args.get("max_val", node.args.get("max"))),
    )
    clips: dict[tuple[object, object], Clip] = {(0, None): "relu", (0, 6): "relu6"}
    if (low, high) not in clips:
        raise node.refuse(f"clips to {low} ... {high}; only ReLU and ReLU6 are exported")
    return Activation(**reader.named(node, "self" if "self" in node.args else "input"), clip=clips[low, high])


def _add(reader: Reader, node: Node) -> Add:
    a, b = node.args["self"], node.args["other"]
    if node.args.get("alpha", 1) != 1 or b not in reader.blobs or a not in reader.blobs:
        raise node.refuse("adds something else than two blobs; a constant can go into a bias")
    if reader.graph.shapes[a] != reader.graph.shapes[b]:
        raise node.refuse(f"adds {list(reader.graph.shapes[a])} and {list(reader.graph.shapes[b])}; must be equal")
    return Add(**reader.named(node, "self", "other"))


def _pool(reader: Reader, node: Node) -> Pool:
    kind: Literal["max", "average"] = "max" if node.kind.startswith("max") else "average"
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


def _global_pool(reader: Reader, node: Node) -> Pool:
    size = node.args.get("output_size")
    dims = sorted(dim % 4 for dim in node.args.get("dim") or ())
    if (size is not None and _pair(size) != (1, 1)) or (size is None and dims != [2, 3]):
        raise node.refuse("only the average over the whole picture is exported")
    return Pool(**reader.named(node, "self"), kind="average")


def _pad(reader: Reader, node: Node) -> Pad:
    left, right, top, bottom = (*node.args["pad"], 0, 0, 0, 0)[:4]
    mode, value = node.args.get("mode", "constant"), node.args.get("value") or 0
    if mode != "constant" or value != 0 or min(left, right, top, bottom) < 0 or len(node.args["pad"]) > 4:
        raise node.refuse("only padding with zeros is exported")
    return Pad(**reader.named(node, "self"), pads=(top, left, bottom, right))


def _pair(value: Any) -> tuple[int, int]:  # noqa: ANN401
    values = (value,) if isinstance(value, int) else tuple(value)
    return (int(values[0]), int(values[-1])) if values else (0, 0)


READERS: dict[str, Callable[[Reader, Node], Layer]] = {
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
