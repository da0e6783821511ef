"""Step 2: batch norm and padding into the convolutions, activations into what they follow; channels reversed."""

from dataclasses import replace
from typing import cast

import numpy as np

from imagequeue_worker.caffe2.geometry import Window

from .errors import UnsupportedLayer
from .layers import Activation, Add, BatchNorm, Conv, FloatNet, Layer, Linear, Pad


def fold(net: FloatNet) -> FloatNet:
    """Merge every batch norm and padding, and every activation that is the only reader of a sum.

    Raises:
        UnsupportedLayer: A batch norm or a padding that has no convolution to go into.
    """
    return _Folder(net).run()


def reverse_channels(net: FloatNet) -> FloatNet | None:
    """Turn a net for RGB into the same net for BGR; None where other layers than convolutions read the image."""
    readers = net.readers()[net.input]
    if not all(isinstance(layer, Conv) and layer.group == 1 for layer in readers):
        return None
    return replace(
        net,
        layers=tuple(
            replace(layer, weights=np.ascontiguousarray(layer.weights[..., ::-1]))
            if isinstance(layer, Conv) and net.input in layer.inputs
            else layer
            for layer in net.layers
        ),
    )


class _Folder:
    def __init__(self, net: FloatNet) -> None:
        self.net = net
        self.readers = net.readers()
        self.done: dict[str, Layer] = {}
        self.pads: dict[str, Pad] = {}
        # Where the value of a merged layer is found.
        self.moved = {net.input: net.input}

    def run(self) -> FloatNet:
        for layer in self.net.layers:
            if isinstance(layer, Pad):
                self._pad(layer)
                continue
            layer = replace(layer, inputs=tuple(self.moved[name] for name in layer.inputs))
            self.moved[layer.name] = self._merge(layer)
        return replace(self.net, layers=tuple(self.done.values()))

    def _pad(self, pad: Pad) -> None:
        readers = self.readers[pad.name]
        if not readers or not all(isinstance(layer, Conv) for layer in readers):
            raise UnsupportedLayer("pad", pad.name, "is not followed by a convolution, which could take it over")
        self.moved[pad.name] = self.moved[pad.inputs[0]]
        self.pads[pad.name] = pad

    def _merge(self, layer: Layer) -> str:
        """Put a layer into the one before it, or behind it; return the blob that holds its value."""
        original = {one.name: one for one in self.net.layers}[layer.name].inputs[0]
        before = self.done.get(layer.inputs[0])
        alone = before is not None and len(self.readers[original]) == 1
        free = alone and isinstance(before, Conv | Linear | Add) and before.clip == "none"
        if isinstance(layer, BatchNorm):
            if not isinstance(before, Conv | Linear) or not free:
                raise UnsupportedLayer("batch_norm", layer.name, "does not directly follow a convolution of its own")
            self.done[before.name] = _scaled(before, layer)
            return before.name
        if (
            isinstance(layer, Activation)
            and isinstance(before, Conv | Linear | Add)
            and alone
            and before.clip == "none"
        ):
            self.done[before.name] = replace(before, clip=layer.clip)
            return before.name
        if isinstance(layer, Conv) and original in self.pads:
            layer = replace(layer, window=_padded(layer.window, self.pads[original].pads))
        self.done[layer.name] = layer
        return layer.name


def _scaled(layer: Conv | Linear, norm: BatchNorm) -> Conv | Linear:
    factor = norm.factor.reshape(-1, *[1] * (layer.weights.ndim - 1))
    return replace(layer, weights=layer.weights * factor, bias=layer.bias * norm.factor + norm.shift)


def _padded(window: Window, pads: tuple[int, int, int, int]) -> Window:
    total = tuple(a + b for a, b in zip(window.pads, pads, strict=True))
    return replace(window, pads=cast("tuple[int, int, int, int]", total))
