"""What both nets have computed so far for all calibration pictures: the float teacher and the Int8 student."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from imagequeue_worker.caffe2.operators import Scratch
from imagequeue_worker.caffe2.tensor import Array, TensorSpec

from .integers import Int8Layer
from .layers import Layer
from .ranges import Quantization
from .teacher import run_layer

Map = Callable[[Callable[[int], None], int], None]
"""Calls a function with 0 ... n - 1, in several threads."""


@dataclass(frozen=True)
class Blob:
    """One blob of all pictures.

    Attributes:
        teacher: float32 [N, H, W, C] or [N, K].
        student: uint8 of that shape.
        quantization: The student's.
    """

    teacher: Array
    student: Array
    quantization: Quantization

    @property
    def spec(self) -> TensorSpec:
        """The student's, for one picture."""
        return TensorSpec("int8", (1, *self.student.shape[1:]), self.quantization.scale, self.quantization.zero_point)

    def error(self) -> float:
        """Return the student's error as a share of the teacher's values (root mean squares, every 4th picture)."""
        wrong = power = 0.0
        for teacher, student in zip(self.teacher[::4], self.student[::4], strict=True):
            real = (student.astype(np.float32) - self.quantization.zero_point) * np.float32(self.quantization.scale)
            wrong += float(np.square(real - teacher).sum(dtype=np.float64))
            power += float(np.square(teacher).sum(dtype=np.float64))
        return float(np.sqrt(wrong / power)) if power else 0.0


@contextmanager
def threads_map(threads: int) -> Iterator[Map]:
    """Run pictures side by side; each one alone, so that their number changes nothing."""
    with ThreadPoolExecutor(threads) as pool:

        def run(work: Callable[[int], None], count: int) -> None:
            for _ in pool.map(work, range(count)):
                pass

        yield run


def teach(layer: Layer, inputs: Sequence[Blob], each: Map) -> Array:
    """Run the teacher's layer on all pictures."""
    count = len(inputs[0].teacher)
    first = run_layer(layer, [blob.teacher[0] for blob in inputs])
    result = np.empty((count, *first.shape), np.float32)

    def work(number: int) -> None:
        result[number] = first if number == 0 else run_layer(layer, [blob.teacher[number] for blob in inputs])

    each(work, count)
    return result


def study(layer: Int8Layer, inputs: Sequence[Blob], each: Map, scratch: Scratch) -> Array:
    """Run the student's layer on all pictures, with the portable engine's own operator."""
    operator = layer.operator([blob.spec for blob in inputs])
    constants = [constant.data for constant in layer.constants]
    count = len(inputs[0].student)
    result = np.empty((count, *operator.outputs[0].shape[1:]), np.uint8)

    def work(number: int) -> None:
        arrays = [blob.student[number : number + 1] for blob in inputs]
        (result[number : number + 1],) = operator.run([*arrays, *constants], scratch)

    each(work, count)
    return result
