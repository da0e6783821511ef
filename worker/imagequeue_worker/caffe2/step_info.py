"""What an engine tells of each step of a net: which operators, how they are computed, how much there is to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from .operators import Operator
from .operators.convolution import Convolution
from .operators.fully_connected import Int8FC
from .tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class StepInfo:
    """One step, for one image.

    Attributes:
        operators: Caffe2's names, joined by "+" where they are fused.
        kernel: How it is computed; "portable" for numpy.
        x, y: Shapes of the first input and of the output.
        products: Multiplications of an input with a weight.
    """

    operators: str
    kernel: str
    x: tuple[int, ...]
    y: tuple[int, ...]
    products: int


def describe_step(operators: str, kernel: str, operator: Operator, inputs: Sequence[TensorSpec]) -> StepInfo:
    """Describe an operator that was checked for one image."""
    y = operator.outputs[0]
    products = 0
    if isinstance(operator, Convolution | Int8FC):
        products = y.size * operator.linear.weights.size // operator.linear.channels
    return StepInfo(operators, kernel, inputs[0].shape if inputs else (), y.shape, products)
