"""TensorFlow's uint8 nets (.tflite) -> Int8 Caffe2 nets. Needs no TensorFlow, and no flatbuffers package.

Read in this order: `flatbuffer` (bounded reading of the format), `names`, `model` (the file's main graph),
`builder` (a Caffe2 net in the making, every operator checked as it is added), `conversion` (what all layers
share), `products` and `others` (one function for each TFLite operator), `convert` (the whole net).
"""

from .convert import ImportedNet, convert_tflite
from .model import read_model

__all__ = ["ImportedNet", "convert_tflite", "read_model"]
