"""What every operator is: checked and packed once when a net is loaded, then run any number of times."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.tensor import Array, TensorSpec


class Scratch(threading.local):
    """Working memory that operators share one after the other; each thread has its own.

    Fresh large arrays cost a page fault per 4 KB, which is more than most operators' arithmetic.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return an uninitialized array, valid until the next call with the same name in this thread."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.empty(size, np.uint8)
        return buffer[:size].view(dtype).reshape(shape)


class Operator(ABC):
    """One operator of a net. Making one checks everything that is known at load; `pack` readies it for `run`.

    An operator never changes after it is packed and never writes into its inputs, so that any threads may
    share it.

    Attributes:
        outputs: What `run` returns, described.
        rowwise: Image i of every output depends on image i of the inputs alone, and shapes follow the batch.
            Only then may a batch be run in groups, with an operator that was made for another number of
            images.
    """

    outputs: tuple[TensorSpec, ...]
    rowwise: bool = True

    @abstractmethod
    def __init__(self, inputs: Sequence[TensorSpec], args: Arguments) -> None:
        """Check and prepare.

        Raises:
            InvalidOperator: Anything that Caffe2 or QNNPACK would refuse, and sizes that do not fit together.
        """

    def pack(self) -> None:  # noqa: B027 - most operators have nothing to arrange
        """Arrange the constants for `run`; other engines arrange them for themselves."""

    @abstractmethod
    def run(self, inputs: Sequence[Array], scratch: Scratch) -> tuple[Array, ...]:
        """Compute the outputs, contiguous arrays, from arrays of the shapes promised (but for the batch)."""


def relu_minimum(args: Arguments, zero_point: int, *, relu: bool) -> int:
    """Return the lower clip of an output: its zero point for the …Relu forms, which must leave some range."""
    args.require(
        not relu or zero_point < 255,
        f"Y_zero_point is {zero_point}: the Relu's output range {zero_point}…255 is empty; must be below 255",
    )
    return zero_point if relu else 0
