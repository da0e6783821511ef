"""Int8 Caffe2 nets, exactly as Caffe2 with QNNPACK computed them; knows nothing of queues and Redis.

Read in this order: `errors`, `tensor`; `wire`, `netdef` (.pb files), `netdef_writer`; `arguments`,
`geometry`, `requantize`, `operators/`; `graph` (both files joined and checked), `interpreter` (the portable
engine); `native`, `arena`, `kernels`, `plan`, `program`, `single`, `step_info` (the native engine; its C++ is
in worker/native); `engines` (which engines there are), `pixels`, `net` and `loading` (what callers use).
"""

from .engines import available_engines
from .errors import (
    Caffe2Error,
    InvalidInput,
    InvalidNet,
    InvalidOperator,
    NetFormatError,
    NetNotFound,
    UnknownEngine,
    UnsupportedOperator,
)
from .loading import load_net, run_operator
from .native import problem as native_problem
from .net import Net
from .pixels import ZOO_SCALING, PixelScaling
from .tensor import QTensor

__all__ = [
    "ZOO_SCALING",
    "Caffe2Error",
    "InvalidInput",
    "InvalidNet",
    "InvalidOperator",
    "Net",
    "NetFormatError",
    "NetNotFound",
    "PixelScaling",
    "QTensor",
    "UnknownEngine",
    "UnsupportedOperator",
    "available_engines",
    "load_net",
    "native_problem",
    "run_operator",
]
