"""The portable engine: resolves every operator when a net is loaded, then runs one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InvalidNet, InvalidOperator
from .geometry import MAX_ELEMENTS
from .graph import Graph, Node, declare
from .operators import Operator, Scratch, make_operator
from .pixels import look_up
from .step_info import describe_step
from .tensor import Array, QTensor, TensorSpec, value_of

# Images that go through the net together. More would leave the caches, fewer would multiply numpy's calls.
GROUP = 4


@dataclass(frozen=True, slots=True)
class Step:
    """One prepared operator, and the slots whose blobs are not needed after it."""

    operator: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frees: tuple[int, ...]


class Plan:
    """A list of nodes prepared for one shape of input.

    Never changes after it is made: any number of threads may run it. Blobs are freed after their last use.

    Args:
        nodes: In the order in which they run.
        constants: Blobs that are known, by slot.
        slot: The input's slot.
        spec: The input's description.

    Raises:
        InvalidOperator, InvalidNet: What does not fit this input.
    """

    def __init__(self, nodes: Sequence[Node], constants: Mapping[int, TensorSpec], slot: int, spec: TensorSpec) -> None:
        self.input = slot
        self.constants = constants
        self.specs: dict[int, TensorSpec] = {**constants, slot: spec}
        self.rowwise = True
        operators: list[Operator] = []
        for node in nodes:
            operator = make_operator([self.specs[s] for s in node.inputs], node.args)
            self.specs.update(declare(node, operator.outputs))
            # Second outputs (shapes) depend on the batch as a whole, once somebody reads them.
            plain = all(self.specs[s].kind in ("int8", "float") or s in constants for s in node.inputs)
            self.rowwise = self.rowwise and operator.rowwise and plain
            operators.append(operator)
        self.steps = _with_frees(nodes, operators, constants)

    def run(self, data: Array, scratch: Scratch, keep: Sequence[int] | None = None) -> dict[int, Array]:
        """Run all operators.

        Args:
            data: The input.
            scratch: Working memory.
            keep: Slots to return; None keeps everything.
        """
        blobs: dict[int, Array] = {s: spec.constant for s, spec in self.constants.items() if spec.constant is not None}
        blobs[self.input] = data
        for step in self.steps:
            results = step.operator.run([blobs[s] for s in step.inputs], scratch)
            blobs.update(zip(step.outputs, results, strict=False))
            for slot in step.frees:
                if keep is not None and slot not in keep:
                    del blobs[slot]
        return blobs


def _with_frees(
    nodes: Sequence[Node], operators: Sequence[Operator], constants: Mapping[int, TensorSpec]
) -> list[Step]:
    last: dict[int, int] = {}
    for number, node in enumerate(nodes):
        last.update(dict.fromkeys((*node.outputs, *node.inputs), number))
    frees: list[list[int]] = [[] for _ in nodes]
    for slot, number in last.items():
        if slot not in constants:
            frees[number].append(slot)
    return [
        Step(operator, node.inputs, node.outputs, tuple(free))
        for node, operator, free in zip(nodes, operators, frees, strict=True)
    ]


def find_output(graph: Graph, specs: Mapping[int, TensorSpec]) -> int:
    """Find the float blob that the last operator writes, of those that the net declares as outputs if any is.

    Raises:
        InvalidNet: There is none, or it has no batch dimension.
    """
    written = [slot for node in graph.body for slot in node.outputs]
    floats = [slot for slot in written if slot in specs and specs[slot].kind == "float"]
    if not floats:
        raise InvalidNet(
            f"the net writes no float blob (outputs: {', '.join(graph.outputs) or 'not named'}); "
            "append an Int8Dequantize"
        )
    slot = ([slot for slot in floats if graph.names[slot] in graph.outputs] or floats)[-1]
    if not specs[slot].shape or specs[slot].size > MAX_ELEMENTS:
        raise InvalidNet(f"output {graph.names[slot]!r} is {specs[slot]}; must have a batch dimension")
    return slot


class Interpreter:
    """Runs a graph on quantized images; the reference that other engines are compared with.

    Attributes:
        name: "portable".
        output: Name of the blob that is returned: the float blob that the last operator writes.
        output_shape: Its shape for one image, without the batch.
        description: Each operator.
    """

    name = "portable"

    def __init__(self, graph: Graph, entry: TensorSpec) -> None:
        self._graph = graph
        self._entry = entry
        self._scratch = Scratch()
        self._plan = Plan(graph.body, graph.constants, graph.entry, entry)
        self._output = find_output(graph, self._plan.specs)
        self.output = graph.names[self._output]
        self.output_shape = self._plan.specs[self._output].shape[1:]
        self.description = [
            describe_step(
                node.args.op_type, "portable", step.operator, [self._plan.specs[slot] for slot in node.inputs]
            )
            for node, step in zip(graph.body, self._plan.steps, strict=True)
        ]

    def run(self, images: Array, table: Array | None = None) -> Array:
        """Classify quantized images.

        Args:
            images: uint8 [N, ...] in the layout of the net's quantized image blob.
            table: uint8 [C, 256]: images are pixels [N, H, W, C], to be mapped through it first.

        Returns:
            float32 [N, ...], the output blob.
        """
        if not self._plan.rowwise:
            images = images if table is None else look_up(table, images)
            return self._plan_for(len(images)).run(images, self._scratch, (self._output,))[self._output]
        out = np.empty((len(images), *self.output_shape), np.float32)
        for first in range(0, len(images), GROUP):
            group = images[first : first + GROUP]
            group = group if table is None else look_up(table, group)
            blobs = self._plan.run(group, self._scratch, (self._output,))
            out[first : first + GROUP] = blobs[self._output]
        return out

    def expect_table(self, table: Array) -> None:
        """Make ready for the table that `run` will be given: nothing to do."""

    def blobs(self, images: Array) -> dict[str, QTensor | Array]:
        """Run, and return every blob that is not a constant; for comparison layer by layer."""
        plan = self._plan if self._plan.rowwise else self._plan_for(len(images))
        blobs = plan.run(images, self._scratch)
        return {
            self._graph.names[slot]: value_of(plan.specs[slot], data)
            for slot, data in blobs.items()
            if slot not in self._graph.constants
        }

    def _plan_for(self, batch: int) -> Plan:
        """Prepare anew for nets whose operators mix the images of a batch, by a Reshape say."""
        if batch == self._entry.shape[0]:
            return self._plan
        spec = TensorSpec("int8", (batch, *self._entry.shape[1:]), self._entry.scale, self._entry.zero_point)
        try:
            return Plan(self._graph.body, self._graph.constants, self._graph.entry, spec)
        except InvalidOperator as error:
            raise InvalidNet(f"this net does not work for batches of {batch}: {error}") from error
