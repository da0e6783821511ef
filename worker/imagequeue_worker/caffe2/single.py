"""One operator as a native program of its own: for `run_operator`, tests and benchmarks."""

from collections.abc import Sequence

import numpy as np

from .arguments import Arguments
from .kernels import IMAGE_INPUTS, find_kernel
from .native import Program
from .operators import check_operator
from .plan import DTYPES, Plan, Step, split
from .program import compile_part
from .tensor import Array, TensorSpec


def compile_single(path: str, inputs: Sequence[TensorSpec], args: Arguments) -> Program | None:
    """Make a program of one operator; None where no kernel can run it.

    Args:
        path: An instruction set of `native.path_names()`.
        inputs: With their data as constants.
        args: The operator's.
    """
    count = IMAGE_INPUTS.get(args.op_type, 0)
    first = inputs[0] if inputs else None
    if first is None or count == 0 or len(first.shape) < 2 or first.size == 0:
        return None
    if any(spec.shape != first.shape or spec.kind != "int8" for spec in inputs[:count]):
        return None
    one = [TensorSpec("int8", (1, *spec.shape[1:]), spec.scale, spec.zero_point) for spec in inputs[:count]]
    one += inputs[count:]
    operator = check_operator(one, args)
    emit = find_kernel(operator)
    if emit is None or operator.outputs[0].kind not in DTYPES:
        return None
    slots, result = tuple(range(len(one))), len(one)
    step = Step(args.op_type, operator, emit, slots, (result,))
    plan = Plan([step], dict(enumerate((*one, operator.outputs[0]))))
    (part,) = split(plan, (result,))
    compile_part(plan, part, path)
    return part.program


def run_single(path: str, inputs: Sequence[TensorSpec], args: Arguments, output: TensorSpec) -> Array | None:
    """Run one operator whose inputs are known; None where no kernel can.

    Args:
        path: As for `compile_single`.
        inputs: As for `compile_single`.
        args: As for `compile_single`.
        output: What the operator's first output is, for all images.
    """
    program = compile_single(path, inputs, args)
    if program is None:
        return None
    images = [np.ascontiguousarray(spec.constant) for spec in inputs[: IMAGE_INPUTS[args.op_type]]]
    out = np.empty(output.shape, DTYPES[output.kind])
    program.run(images, [out], None)
    return out
