"""What can be wrong with a net, an operator or the data given to them.

    Caffe2Error
    ├── NetNotFound          no such file
    ├── NetFormatError       the bytes of a .pb file are not a NetDef
    ├── InvalidNet           the graph does not fit together
    ├── UnsupportedOperator  an operator that no engine has
    ├── InvalidOperator      an operator's arguments, inputs, scales or shapes break one of its rules
    ├── InvalidInput         the data given to a loaded net, or to QTensor
    └── UnknownEngine        an engine that does not exist here

Every message gives the value, the rule and the remedy. All but `InvalidInput` are raised when a net is
loaded.
"""

from collections.abc import Iterable


class Caffe2Error(Exception):
    """Base of all errors that this package raises on purpose."""


class NetNotFound(Caffe2Error):
    """Raised when a net's files are not there or cannot be read."""


class NetFormatError(Caffe2Error):
    """Raised when the bytes of a .pb file are truncated, damaged, hostile or simply no NetDef."""


class InvalidNet(Caffe2Error):
    """Raised when operators do not fit together: missing blobs, sizes, no image input, no output."""


class UnsupportedOperator(Caffe2Error):
    """Raised for an operator type that is not implemented; the message lists those that are."""

    def __init__(self, op_type: str, known: Iterable[str], where: str = "") -> None:
        self.op_type = op_type
        self.known = tuple(sorted(known))
        place = f" ({where})" if where else ""
        super().__init__(f"operator {op_type!r}{place} is not supported; supported are {', '.join(self.known)}")


class InvalidOperator(Caffe2Error):
    """Raised when an operator's arguments, number of inputs, scales or shapes break a rule of Caffe2."""


class InvalidInput(Caffe2Error):
    """Raised when data given to a net or to `QTensor` has the wrong type, shape or quantization."""


class UnknownEngine(Caffe2Error):
    """Raised when an engine is asked for that this machine or version does not have."""

    def __init__(self, engine: str, available: Iterable[str]) -> None:
        self.engine = engine
        self.available = tuple(available)
        super().__init__(f"engine {engine!r} does not exist here; available: {', '.join(self.available)}")
