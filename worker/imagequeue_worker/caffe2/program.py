"""The native engine: fuses, packs, plans memory when a net is loaded, then runs the whole net in one call.

A net becomes parts: runs of operators that have a native kernel, each one `native.Program` over one arena, and
between them runs of operators that have none, in the portable engine's way. The usual net is one native part.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .arena import Life, place
from .errors import InvalidInput
from .graph import Graph
from .interpreter import Interpreter, find_output
from .kernels import Tensors
from .native import Program
from .operators import Scratch
from .pixels import look_up
from .plan import DTYPES, Part, Plan, check, fuse, split
from .step_info import StepInfo, describe_step
from .tensor import Array, QTensor, TensorSpec, value_of


def _image_bytes(spec: TensorSpec) -> int:
    return spec.size * np.dtype(DTYPES[spec.kind]).itemsize


def compile_part(plan: Plan, part: Part, path: str) -> None:
    """Place the part's tensors, and pack its operators into a program."""
    slots: dict[int, list[int]] = {slot: [-1, -1] for slot in part.inputs}
    for number, step in enumerate(part.steps):
        for slot in map(plan.source, step.inputs):
            if slot in slots:
                slots[slot][1] = number
        slots[step.outputs[0]] = [number, number]
    for slot in part.outputs:
        slots[slot][1] = len(part.steps)
    lives = [Life(_image_bytes(plan.specs[slot]), *life) for slot, life in slots.items()]
    offsets, arena_bytes = place(lives)
    at = dict(zip(slots, offsets, strict=True))
    program = Program(path)
    for step in part.steps:
        data = [slot for slot in step.inputs if plan.specs[slot].constant is None]
        tensors = Tensors(
            tuple(plan.specs[slot] for slot in data),
            plan.specs[step.outputs[0]],
            tuple(at[plan.source(slot)] for slot in data),
            at[step.outputs[0]],
            step.relu,
        )
        if step.emit is not None:
            step.kernel = step.emit(program, step.operator, tensors)
    program.finish(
        [(at[slot], _image_bytes(plan.specs[slot])) for slot in part.inputs],
        [(at[slot], _image_bytes(plan.specs[slot])) for slot in part.outputs],
        arena_bytes,
    )
    part.program = program


class Compiled:
    """A net in parts, ready to run; the constants of the operators with native kernels live in their programs."""

    def __init__(self, graph: Graph, plan: Plan, outputs: Sequence[int], path: str) -> None:
        self._entry = graph.entry
        self._plan = plan
        self._outputs = tuple(outputs)
        self._parts = split(plan, outputs)
        self._scratch = Scratch()
        self.description: list[StepInfo] = []
        for part in self._parts:
            if part.steps[0].emit is not None:
                compile_part(plan, part, path)
            else:
                for step in part.steps:
                    step.operator.pack()
            self.description += [
                describe_step(step.name, step.kernel, step.operator, [plan.specs[slot] for slot in step.inputs])
                for step in part.steps
            ]
            if part.program is not None:
                part.steps = []
        self._mapping = self._find_mapping()

    def _find_mapping(self) -> Program | None:
        """Find the program that can map pixels through a table on their way in: the only reader, as its first input."""
        readers = [part for part in self._parts if self._entry in part.inputs]
        return readers[0].program if len(readers) == 1 and readers[0].inputs[0] == self._entry else None

    def run(self, images: Array, table: Array | None) -> dict[int, Array]:
        """Run all parts for all images; returns the outputs by slot, [N, …] each."""
        if table is not None and self._mapping is None:
            images, table = look_up(table, images), None
        blobs = {self._entry: images}
        for part in self._parts:
            if part.program is not None:
                self._run_native(part, part.program, blobs, table)
            else:
                self._run_portable(part, blobs)
        return {slot: blobs[self._plan.source(slot)] for slot in self._outputs}

    def expect_table(self, table: Array) -> None:
        """Make ready for the table that `run` will be given."""
        if self._mapping is not None:
            self._mapping.expect_table(table)

    def profile(self, images: Array, table: Array | None, rounds: int) -> list[float]:
        """Time one image's way in and each step of a net that is one native part, in seconds, best of `rounds`."""
        (part,) = self._parts
        if part.program is None:
            raise InvalidInput("the net has no native kernels; profile one that has")
        nanoseconds = part.program.profile([np.ascontiguousarray(images)], table, rounds, len(self.description))
        return [float(value) / 1e9 for value in nanoseconds]

    def _run_native(self, part: Part, program: Program, blobs: dict[int, Array], table: Array | None) -> None:
        inputs = [np.ascontiguousarray(blobs[slot]) for slot in part.inputs]
        outputs = []
        for slot in part.outputs:
            spec = self._plan.specs[slot]
            blobs[slot] = np.empty((len(inputs[0]), *spec.shape[1:]), DTYPES[spec.kind])
            outputs.append(blobs[slot])
        program.run(inputs, outputs, table if program is self._mapping else None)

    def _run_portable(self, part: Part, blobs: dict[int, Array]) -> None:
        for step in part.steps:
            inputs = []
            for slot in step.inputs:
                spec = self._plan.specs[slot]
                data = spec.constant if spec.constant is not None else blobs[self._plan.source(slot)]
                inputs.append(data if spec.constant is not None else data.reshape(len(data), *spec.shape[1:]))
            blobs.update(zip(step.outputs, step.operator.run(inputs, self._scratch), strict=False))


class NativeEngine:
    """Runs a graph through C++ kernels of one instruction set; the same bytes as the portable engine.

    Args:
        path: An instruction set of `native.path_names()`.
        graph: The net.
        entry: One quantized image.
        threads: Among how many threads the images of a call are shared out.

    Attributes:
        name: "native/" and the instruction set.
        output: Name of the blob that is returned.
        output_shape: Its shape for one image, without the batch.
        description: Each step.
    """

    def __init__(self, path: str, graph: Graph, entry: TensorSpec, threads: int = 1) -> None:
        plan = check(graph, entry)
        self.name = f"native/{path}"
        self._graph, self._entry, self._path = graph, entry, path
        self._slot = find_output(graph, plan.specs)
        self.output = graph.names[self._slot]
        self.output_shape = plan.specs[self._slot].shape[1:]
        self._portable = None if plan.rowwise else Interpreter(graph, entry)
        self.description: Sequence[StepInfo] = self._portable.description if self._portable else ()
        self._threads = _Threads(threads)
        self._seen: Compiled | None = None
        if plan.rowwise:
            fuse(plan, (self._slot,))
            self._compiled = Compiled(graph, plan, (self._slot,), path)
            self.description = self._compiled.description

    def run(self, images: Array, table: Array | None = None) -> Array:
        """Classify quantized images; see `Interpreter.run`."""
        if self._portable is not None:
            return self._portable.run(images, table)
        parts = self._threads.map(lambda some: self._compiled.run(some, table)[self._slot], images)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def expect_table(self, table: Array) -> None:
        """Make ready for the table that `run` will be given; called once, before any run."""
        if self._portable is None:
            self._compiled.expect_table(table)

    def profile(self, images: Array, table: Array | None = None, rounds: int = 100) -> list[float]:
        """Time one image's way in, then each step of `description`, in seconds: for benchmarks."""
        if self._portable is not None:
            raise InvalidInput("this net mixes the images of a batch and runs in the portable engine; profile another")
        return self._compiled.profile(images, table, rounds)

    def blobs(self, images: Array) -> dict[str, QTensor | Array]:
        """Run with nothing fused, and return every blob that is not a constant."""
        if self._portable is not None:
            return self._portable.blobs(images)
        if self._seen is None:
            plan = check(self._graph, self._entry)
            slots = [slot for step in plan.steps for slot in step.outputs if slot in plan.specs]
            self._all = plan.specs  # first: another thread looks at _seen
            self._seen = Compiled(self._graph, plan, slots, self._path)
        blobs: Mapping[int, Array] = {self._graph.entry: images, **self._seen.run(images, None)}
        return {self._graph.names[slot]: value_of(self._all[slot], data) for slot, data in blobs.items()}


class _Threads:
    """Shares the images of a call out among threads, which a fork leaves behind."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def map(self, run: Callable[[Array], Array], images: Array) -> list[Array]:
        """Run all images, or each share of them; results in order."""
        shares = min(self._count, len(images))
        if shares <= 1:
            return [run(images)]
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(self._count, "imagequeue-net")
        return list(self._pool[1].map(run, np.array_split(images, shares)))
