"""What can be wrong with a model that is to be quantized, or with the pictures it is calibrated on.

    Caffe2Error
    └── QuantizeError
        ├── TorchMissing       torch is not installed here
        ├── ModelNotLoadable   the model is not there, is no model, or has no eval mode
        ├── UnsupportedLayer   the model contains something that Int8 Caffe2 nets cannot have
        ├── InvalidModel       shapes, weights or scales that cannot be used
        └── InvalidCalibration no pictures, or pictures of the wrong shape

Every message gives the value, the rule and the remedy.
"""

from imagequeue_worker.caffe2.errors import Caffe2Error


class QuantizeError(Caffe2Error):
    """Base of all errors that the quantizer raises on purpose."""


class TorchMissing(QuantizeError):  # noqa: N818  names the state
    """Raised when a PyTorch model is to be read and torch is not installed."""

    def __init__(self) -> None:
        super().__init__("torch is not installed; models are read with it; pip install 'imagequeue[quantize]'")


class ModelNotLoadable(QuantizeError):  # noqa: N818  names the state
    """Raised when a model cannot be imported, called, opened or exported."""


class UnsupportedLayer(QuantizeError):  # noqa: N818  names the state
    """Raised for a layer that no Int8 Caffe2 net can have; the message names it and lists what is possible."""

    def __init__(self, operator: str, where: str, what: str) -> None:
        self.operator = operator
        super().__init__(
            f"{operator} at {where}: {what}; a net may consist of convolutions, batch norm, ReLU, ReLU6, additions, "
            "max and average pooling and fully connected layers; retrain or cut the model so that it does"
        )


class InvalidModel(QuantizeError):  # noqa: N818  names the state
    """Raised when a model has dynamic shapes, weights that are no numbers, or scales beyond Caffe2's."""


class InvalidCalibration(QuantizeError):  # noqa: N818  names the state
    """Raised when there are no calibration pictures, or their shape is not the model's."""
