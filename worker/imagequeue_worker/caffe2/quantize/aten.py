"""From an ATen graph to a list of layers: what is passed on, what is translated, what is refused and why."""

import numpy as np

from .aten_operators import READERS, Reader
from .errors import InvalidModel
from .layers import FloatNet, Layer
from .nodes import Node, Nodes


def read_layers(graph: Nodes) -> FloatNet:
    """Translate a graph, leaving batch norms, paddings and activations where they are.

    Raises:
        UnsupportedLayer: An operator, or a form of it, that Int8 Caffe2 nets cannot have.
        InvalidModel: The image or the logits have an impossible shape.
    """
    shape = graph.shapes[graph.input]
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise InvalidModel(f"the model's input has shape {list(shape)}; must be [N, 1 or 3, height, width]")
    for node in graph.nodes:
        node.refuse_training()
    reader = _Translation(graph)
    for node in graph.nodes:
        reader.read(node)
    output = reader.source(graph.output)
    layers = reader.layers[: 1 + next((i for i, layer in enumerate(reader.layers) if layer.name == output), -1)]
    if not layers or np.prod(graph.shapes[graph.output]) != graph.shapes[graph.output][-1]:
        raise InvalidModel(f"the model's output has shape {list(graph.shapes[graph.output])}; must be [N, classes]")
    return FloatNet(graph.input, (shape[2], shape[3], shape[1]), tuple(layers))


class _Translation(Reader):
    """Collects layers."""

    def __init__(self, graph: Nodes) -> None:
        super().__init__(graph)
        self.layers: list[Layer] = []

    def read(self, node: Node) -> None:
        """Translate one node."""
        if node.kind in _PASS_THROUGH:
            self.pass_on(node, self.source(node.args[_PASS_THROUGH[node.kind]]))
            return
        if node.kind not in READERS:
            raise node.refuse(self.explain(node))
        layer = READERS[node.kind](self, node)
        self.layers.append(layer)
        self.blobs[node.name] = layer.name
        self.shapes[layer.name] = self.graph.shapes[node.name]

    def pass_on(self, node: Node, source: str) -> None:
        """Know a node's value under the blob that it only looks at in another way."""
        before, after = self.shapes[source], self.graph.shapes[node.name]
        if len(after) != 2 and [n for n in before if n > 1] != [n for n in after if n > 1]:
            raise node.refuse(f"brings {list(before)} into the shape {list(after)}; pictures can only be flattened")
        if node.kind == "softmax" and node.name != self.graph.output:
            raise node.refuse("a softmax can only stand at the end")
        self.blobs[node.name] = source

    def explain(self, node: Node) -> str:
        """Why an operator is refused, in the words that its author would use."""
        if node.kind in ("sigmoid", "hardsigmoid", "mul"):
            gates = [self.graph.shapes.get(name, ()) for name in (node.name, *map(str, node.args.values()))]
            if any(len(shape) == 4 and shape[2:] == (1, 1) for shape in gates):
                return "squeeze-and-excitation has no Int8 form"
            return "swish and other products of two blobs have no Int8 form"
        return _WHAT.get(node.kind, "has no Int8 form")


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
