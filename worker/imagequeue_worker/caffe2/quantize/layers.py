"""A float net as a plain list of layers, in the order in which they run; NHWC, weights as Caffe2 has them.

`Pad`, `BatchNorm` and `Activation` stand where the model has them; folding merges them into their neighbours.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.tensor import Array

Clip = Literal["none", "relu", "relu6"]
CAPS: dict[Clip, float] = {"none": np.inf, "relu": np.inf, "relu6": 6.0}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One step: reads blobs by name and writes the blob `name`."""

    name: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """Weights float64 [M, kh, kw, C / group], bias [M]; the clip is applied to the result."""

    weights: Array = field(repr=False)
    bias: Array = field(repr=False)
    window: Window
    group: int = 1
    clip: Clip = "none"


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """Weights float64 [M, K] over the flattened NHWC input, bias [M]."""

    weights: Array = field(repr=False)
    bias: Array = field(repr=False)
    clip: Clip = "none"


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """The sum of two blobs of one shape."""

    clip: Clip = "none"


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """The maximum or the mean under a window; no window: under the whole picture."""

    kind: Literal["max", "average"]
    window: Window | None = None


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """ReLU or ReLU6 on its own."""

    clip: Clip


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Layer):
    """Per channel `x * factor + shift`, float64 [C] each."""

    factor: Array = field(repr=False)
    shift: Array = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Pad(Layer):
    """Zeros around the picture: top, left, bottom, right."""

    pads: tuple[int, int, int, int]


@dataclass(frozen=True)
class FloatNet:
    """A float classifier.

    Attributes:
        input: The image blob's name.
        input_shape: (height, width, channels).
        layers: In the order in which they run; the last one writes the logits.
    """

    input: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    @property
    def output(self) -> str:
        """The logits' name."""
        return self.layers[-1].name

    def readers(self) -> dict[str, list[Layer]]:
        """Who reads each blob."""
        found: dict[str, list[Layer]] = {self.input: [], **{layer.name: [] for layer in self.layers}}
        for layer in self.layers:
            for name in layer.inputs:
                found[name].append(layer)
        return found
