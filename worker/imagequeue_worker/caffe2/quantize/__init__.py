"""Float classifiers -> Int8 Caffe2 nets: post-training quantization, without labels or training (QUANTIZE.md).

Read in this order: `errors`, `layers` (a float net as a list); `nodes` (an exported model as plain values),
`importer` (PyTorch; the only file that imports torch, on use), `aten` and `aten_operators` (its operators -> layers),
`folding`; `teacher` (runs the float net), `patches`; `ranges`, `rounding`, `bias`, `integers` (the steps, each of pure
functions); `blobs`, `quantizer` (the loop over the layers), `writer` (.pb files). From a model to the files:

    nodes = importer.read_nodes(model, input_size)
    net = fold(read_layers(nodes))
    files = net_files(quantize_net(net, pixels, scaling), "my_net")
"""

from .aten import read_layers
from .errors import (
    InvalidCalibration,
    InvalidModel,
    ModelNotLoadable,
    QuantizeError,
    TorchMissing,
    UnsupportedLayer,
)
from .folding import fold, reverse_channels
from .layers import FloatNet
from .quantizer import LayerReport, QuantizedNet, quantize_net
from .ranges import Quantization
from .writer import net_files

__all__ = [
    "FloatNet",
    "InvalidCalibration",
    "InvalidModel",
    "LayerReport",
    "ModelNotLoadable",
    "Quantization",
    "QuantizeError",
    "QuantizedNet",
    "TorchMissing",
    "UnsupportedLayer",
    "fold",
    "net_files",
    "quantize_net",
    "read_layers",
    "reverse_channels",
]
