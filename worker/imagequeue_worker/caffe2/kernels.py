"""From a checked operator to a step of the native engine, for those that have a kernel."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .geometry import Window
from .native import AddRule, AverageRule, ConvShape, Form, LinearRule, PoolShape, Program
from .operators import Operator, add, convolution, fully_connected, pooling, softmax, tables
from .operators.add import Int8Add
from .operators.convolution import Convolution, Depthwise
from .operators.fully_connected import Int8FC
from .operators.layout import Int8Flatten, Int8Reshape
from .operators.linear import Linear
from .operators.pooling import Int8AveragePool, Int8MaxPool
from .operators.quantize import Int8Dequantize
from .operators.softmax import Int8Softmax
from .operators.tables import Int8Relu, Int8Table
from .requantize import average_rule
from .tensor import TensorSpec

# How many of their inputs are images, for the operators that may have a kernel.
IMAGE_INPUTS = {
    **dict.fromkeys((*convolution.OPERATORS, *fully_connected.OPERATORS, *pooling.OPERATORS), 1),
    **dict.fromkeys((*tables.OPERATORS, *softmax.OPERATORS, "Int8Dequantize"), 1),
    **dict.fromkeys(add.OPERATORS, 2),
}

# Rows of a depthwise window: depthwise.h holds 16 units of two rows, and output rows that begin in the middle of one
# need one more row.
MOST_DEPTHWISE_ROWS = 31

WORDS = {Form.ONE_FMA: "one FMA", Form.SIGNED: "signed FMA", Form.Q31: "64-bit rule"}


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a step reads and writes: descriptions for one image, and offsets in the arena."""

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    x: tuple[int, ...]
    y: int
    relu: bool  # clip for the Relu that follows, too


def _linear_rule(linear: Linear, minimum: int) -> tuple[LinearRule, object]:
    """Describe the arithmetic; the second value owns the memory that the first one points to."""
    requantizer, weights = linear.requantizer, linear.by_output()
    bias = requantizer.offset.astype(np.int32)  # wraps, as QNNPACK's accumulators do
    rule = LinearRule(
        requantizer.scale,
        requantizer.zero_point,
        minimum,
        linear.lowest,
        linear.highest,
        weights.ctypes.data,
        bias.ctypes.data,
    )
    return rule, (weights, bias)


def _conv_shape(window: Window, group: int, zero_point: int, x: TensorSpec, y: TensorSpec) -> ConvShape:
    return ConvShape(
        *x.shape[1:], *y.shape[1:], *window.kernel, *window.stride, *window.dilation, *window.pads, group, zero_point
    )


def _convolution(program: Program, operator: Convolution, t: Tensors) -> str:
    linear = operator.linear
    minimum = linear.y_zero_point if t.relu else linear.requantizer.minimum
    rule, _owner = _linear_rule(linear, minimum)
    shape = _conv_shape(operator.window, operator.group, operator.zero_point, t.inputs[0], t.output)
    if isinstance(operator, Depthwise):
        return f"depthwise, {WORDS[program.depthwise(shape, rule, t.x[0], t.y)]}"
    return f"convolution, {WORDS[program.convolution(shape, rule, t.x[0], t.y)]}"


def _fits(operator: Depthwise) -> bool:
    window = operator.window
    return window.dilation[0] == 1 and window.kernel[0] <= MOST_DEPTHWISE_ROWS


def _fully_connected(program: Program, operator: Int8FC, t: Tensors) -> str:
    linear = operator.linear
    rule, _owner = _linear_rule(linear, linear.y_zero_point if t.relu else linear.requantizer.minimum)
    depth = t.inputs[0].size // t.inputs[0].shape[0]
    shape = ConvShape(1, 1, depth, 1, 1, linear.channels, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, operator.zero_point)
    return f"matrix product, {WORDS[program.convolution(shape, rule, t.x[0], t.y)]}"


def _stays_in_int32(operator: Int8Add) -> bool:
    rule, (a, b) = operator.rule, operator.zero_points
    largest = rule.a_multiplier * max(a, 255 - a) + rule.b_multiplier * max(b, 255 - b)
    return 1 <= rule.shift <= 31 and largest + (1 << (rule.shift - 1)) < 1 << 31


def _add_rule(operator: Int8Add) -> AddRule:
    rule, (a, b) = operator.rule, operator.zero_points
    zero_point = operator.outputs[0].zero_point
    return AddRule(rule.a_multiplier, rule.b_multiplier, a, b, rule.shift, zero_point, operator.minimum)


def _add(program: Program, operator: Int8Add, t: Tensors) -> str:
    program.add(_add_rule(operator), t.output.size, t.x[0], t.x[1], t.y)
    return "32-bit sums"


def _pool_shape(operator: Int8AveragePool | Int8MaxPool, t: Tensors) -> PoolShape:
    window = operator.window
    return PoolShape(*t.inputs[0].shape[1:], *operator.size, *window.kernel, *window.stride, *window.pads[:2])


def _average_pool(program: Program, operator: Int8AveragePool, t: Tensors) -> str:
    rule = AverageRule(*average_rule(operator.scale), operator.zero_point, operator.y_zero_point, operator.minimum)
    program.average_pool(_pool_shape(operator, t), rule, t.x[0], t.y)
    return "sums"


def _max_pool(program: Program, operator: Int8MaxPool, t: Tensors) -> str:
    program.max_pool(_pool_shape(operator, t), int(operator.minimum), t.x[0], t.y)
    return "maxima"


def _relu(program: Program, operator: Int8Relu, t: Tensors) -> str:
    program.table(np.maximum(np.arange(256, dtype=np.uint8), operator.minimum), t.output.size, t.x[0], t.y)
    return "table"


def _table(program: Program, operator: Int8Table | Int8Dequantize, t: Tensors) -> str:
    program.table(np.ascontiguousarray(operator.table), t.output.size, t.x[0], t.y)
    return "table"


def _softmax(program: Program, operator: Int8Softmax, t: Tensors) -> str:
    program.softmax(operator.table, t.output.size, t.x[0], t.y)
    return "histogram"


Emit = Callable[[Program, Operator, Tensors], str]


def find_kernel(operator: Operator) -> Emit | None:
    """Return what appends an operator to a program and says in words how it is computed; None if nothing does."""
    if not operator.rowwise:
        return None
    emit: object = None
    match operator:
        case Depthwise() if _fits(operator):
            emit = _convolution
        case Convolution() if not isinstance(operator, Depthwise):
            emit = _convolution
        case Int8FC():
            emit = _fully_connected
        case Int8Add() if _stays_in_int32(operator):
            emit = _add
        case Int8AveragePool():
            emit = _average_pool
        case Int8MaxPool():
            emit = _max_pool
        case Int8Relu():
            emit = _relu
        case Int8Table() | Int8Dequantize():
            emit = _table
        case Int8Softmax():
            emit = _softmax
    return emit  # type: ignore[return-value]  # each takes the operator that was matched


def moves_nothing(operator: Operator) -> bool:
    """Tell whether the first output has the input's bytes, in the same order."""
    return operator.rowwise and (
        isinstance(operator, Int8Reshape | Int8Flatten) or (isinstance(operator, Int8Relu) and operator.minimum == 0)
    )


def takes_relu(operator: Operator, relu: Operator) -> bool:
    """Tell whether an operator can clip as the Int8Relu that reads it does: it has the output's zero point."""
    return isinstance(operator, Convolution | Int8FC) and isinstance(relu, Int8Relu)
