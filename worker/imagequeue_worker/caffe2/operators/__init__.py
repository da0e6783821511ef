"""Caffe2's Int8 operators, one file for each family, exact semantics in numpy.

Read `base` first (check and pack at load, then run), then `linear` (what convolutions and FC share).
Products, requantized: convolution (with rows), fully_connected, conv_transpose.
Arithmetic on single bytes: add, tables, softmax, pooling, quantize.
Bytes that only move: layout, pieces, resize, fill. Samples of regions: roi_align.
`make_operator` finds an operator by its type in `OPERATORS`; `check_operator` only checks it.
"""

from collections.abc import Callable, Mapping, Sequence

from imagequeue_worker.caffe2.arguments import Arguments
from imagequeue_worker.caffe2.errors import UnsupportedOperator
from imagequeue_worker.caffe2.tensor import TensorSpec

from . import (
    add,
    conv_transpose,
    convolution,
    fill,
    fully_connected,
    layout,
    pieces,
    pooling,
    quantize,
    resize,
    roi_align,
    softmax,
    tables,
)
from .base import Operator, Scratch

__all__ = ["OPERATORS", "Operator", "Scratch", "check_operator", "make_operator"]

OPERATORS: Mapping[str, Callable[[Sequence[TensorSpec], Arguments], Operator]] = {
    **convolution.OPERATORS,
    **fully_connected.OPERATORS,
    **conv_transpose.OPERATORS,
    **add.OPERATORS,
    **tables.OPERATORS,
    **softmax.OPERATORS,
    **pooling.OPERATORS,
    **quantize.OPERATORS,
    **layout.OPERATORS,
    **pieces.OPERATORS,
    **resize.OPERATORS,
    **fill.OPERATORS,
    **roi_align.OPERATORS,
}


def check_operator(inputs: Sequence[TensorSpec], args: Arguments) -> Operator:
    """Check an operator and describe its outputs; it cannot run yet.

    Raises:
        UnsupportedOperator: The type is not in `OPERATORS`.
        InvalidOperator: Arguments or inputs break one of the operator's rules.
    """
    make = OPERATORS.get(args.op_type)
    if make is None:
        raise UnsupportedOperator(args.op_type, OPERATORS, args.where.strip(" ()"))
    return make(inputs, args)


def make_operator(inputs: Sequence[TensorSpec], args: Arguments) -> Operator:
    """Check an operator and pack its constants, so that it can run.

    Raises:
        UnsupportedOperator, InvalidOperator: As `check_operator`.
    """
    operator = check_operator(inputs, args)
    operator.pack()
    return operator
