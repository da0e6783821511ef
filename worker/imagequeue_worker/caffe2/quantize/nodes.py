"""An exported model as plain values: what stands between torch and the layers."""

from dataclasses import dataclass, field
from typing import Any

from imagequeue_worker.caffe2.tensor import Array

from .errors import InvalidModel, UnsupportedLayer


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

    @property
    def kind(self) -> str:
        """The operator without its overload, and without the underscore of those that work in place."""
        return self.operator.split(".")[0].rstrip("_")

    def refuse_training(self) -> None:
        """Raise InvalidModel for a node that behaves as in training."""
        if self.args.get("training") or self.args.get("train"):
            raise InvalidModel(f"{self.where} is in training mode; call model.eval() before torch.export")

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
        return any(node.name == self.output and node.kind == "softmax" for node in self.nodes)
