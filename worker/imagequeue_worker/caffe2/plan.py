"""From a graph to steps: checked for one image, fused, and grouped by who can run them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .graph import Graph, declare
from .kernels import Emit, find_kernel, moves_nothing, takes_relu
from .native import Program
from .operators import Operator, check_operator
from .tensor import TensorSpec

DTYPES = {"int8": np.uint8, "float": np.float32}


@dataclass(slots=True)
class Step:
    """One operator, or a convolution with the Relu that follows it."""

    name: str
    operator: Operator
    emit: Emit | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    relu: bool = False
    kernel: str = "portable"


@dataclass(slots=True)
class Part:
    """Neighbouring steps that run together."""

    steps: list[Step]
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    program: Program | None = None


@dataclass(slots=True)
class Plan:
    """A graph checked for images one by one, as steps.

    Attributes:
        steps: In the order in which they run.
        specs: Every blob for one image, by slot.
        alias: Slots whose bytes are those of another slot, behind a Reshape say.
        rowwise: Images do not depend on each other.
    """

    steps: list[Step] = field(default_factory=list)
    specs: dict[int, TensorSpec] = field(default_factory=dict)
    alias: dict[int, int] = field(default_factory=dict)
    rowwise: bool = True

    def names(self, slot: int) -> list[int]:
        """Follow aliases: the slot, and those whose bytes it has; the last one holds them."""
        names = [slot]
        while names[-1] in self.alias:
            names.append(self.alias[names[-1]])
        return names

    def source(self, slot: int) -> int:
        """Find the slot that holds a slot's bytes."""
        return self.names(slot)[-1]


def check(graph: Graph, entry: TensorSpec) -> Plan:
    """Check every operator and describe every blob.

    Raises:
        InvalidOperator, InvalidNet: What does not fit this input.
    """
    plan = Plan(specs={**graph.constants, graph.entry: entry})
    for node in graph.body:
        specs = tuple(plan.specs[slot] for slot in node.inputs)
        operator = check_operator(specs, node.args)
        plan.specs.update(declare(node, operator.outputs))
        plan.rowwise = (
            plan.rowwise and operator.rowwise and all(s.kind in DTYPES or s.constant is not None for s in specs)
        )
        plan.steps.append(Step(node.args.op_type, operator, find_kernel(operator), node.inputs, node.outputs))
    return plan


def fuse(plan: Plan, kept: Iterable[int]) -> None:
    """Let convolutions clip for the Relu that follows, and drop operators that move no byte.

    Args:
        plan: Changed.
        kept: Slots that somebody wants to see: what writes them is left alone.
    """
    kept = set(kept)
    readers: dict[int, int] = {}
    for step in plan.steps:
        for slot in step.inputs:
            readers[slot] = readers.get(slot, 0) + 1
    writers = {step.outputs[0]: step for step in plan.steps}
    steps: list[Step] = []
    for step in plan.steps:
        x, y = step.inputs[0] if step.inputs else -1, step.outputs[0]
        writer = writers.get(plan.source(x))
        # Every name of the bytes that are clipped: nobody else may see them under one of these.
        single = all(readers.get(slot) == 1 and slot not in kept for slot in plan.names(x))
        second_read = any(slot in readers or slot in kept for slot in step.outputs[1:])
        if writer and writer.emit and not writer.relu and single and takes_relu(writer.operator, step.operator):
            writer.relu, writer.name = True, f"{writer.name}+{step.name}"
            plan.alias[y] = x
        elif moves_nothing(step.operator) and y not in kept and not second_read:
            plan.alias[y] = x
        else:
            steps.append(step)
    plan.steps = steps


def split(plan: Plan, outputs: Sequence[int]) -> list[Part]:
    """Group neighbouring steps, and find which blobs cross the borders."""
    parts: list[Part] = []
    for step in plan.steps:
        if not parts or (parts[-1].steps[-1].emit is None) != (step.emit is None):
            parts.append(Part([]))
        parts[-1].steps.append(step)
    wanted = {plan.source(slot) for slot in outputs}
    for part in reversed(parts):
        written = [slot for step in part.steps for slot in step.outputs if slot in plan.specs]
        read = [plan.source(s) for step in part.steps for s in step.inputs if plan.specs[s].constant is None]
        part.outputs = tuple(slot for slot in written if slot in wanted)
        part.inputs = tuple(dict.fromkeys(slot for slot in read if slot not in written))
        wanted = (wanted - set(written)) | set(part.inputs)
    return parts
