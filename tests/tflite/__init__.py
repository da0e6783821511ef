"""TensorFlow's uint8 nets become Int8 Caffe2 nets: what is converted, what is refused, and how LiteRT compares."""
