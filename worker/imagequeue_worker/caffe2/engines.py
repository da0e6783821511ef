"""The engines, best first: each runs a checked graph, all give the same bytes.

`engine="auto"` takes the environment's `IMAGEQUEUE_ENGINE` if set, else the first that this machine can run.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from .errors import UnknownEngine
from .graph import Graph
from .interpreter import Interpreter
from .native import path_names
from .program import NativeEngine
from .step_info import StepInfo
from .tensor import Array, QTensor, TensorSpec

ENGINE_VARIABLE = "IMAGEQUEUE_ENGINE"


class Engine(Protocol):
    """A loaded net, ready to run; made of a graph and the description of one quantized image."""

    @property
    def name(self) -> str:
        """As in `available_engines()`."""

    @property
    def output(self) -> str:
        """Name of the blob that `run` returns."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Its shape for one image, without the batch."""

    @property
    def description(self) -> Sequence[StepInfo]:
        """Each step."""

    def run(self, images: Array, table: Array | None = None) -> Array:
        """Classify quantized images, uint8 [N, ...] to float32 [N, ...].

        With a table, uint8 [C, 256], they are pixels [N, H, W, C] still to be mapped through it.
        """

    def expect_table(self, table: Array) -> None:
        """Make ready for the table that `run` will be given; called once, before any run."""

    def blobs(self, images: Array) -> dict[str, QTensor | Array]:
        """Return every blob that is not a constant."""


# Ordered: best first. Native paths are those that the library has and this processor can run.
ENGINES: dict[str, Callable[[Graph, TensorSpec, int], Engine]] = {
    **{f"native/{path}": partial(NativeEngine, path) for path in path_names()},
    "portable": lambda graph, entry, _threads: Interpreter(graph, entry),
}


def available_engines() -> list[str]:
    """List the engines that this machine can run, best first; each is valid as `engine=`."""
    return list(ENGINES)


def choose_engine(engine: str) -> str:
    """Resolve "auto".

    Raises:
        UnknownEngine: The name, given or from the environment, is not available.
    """
    if engine == "auto":
        engine = os.environ.get(ENGINE_VARIABLE, "") or "auto"
    if engine == "auto":
        return next(iter(ENGINES))
    if engine not in ENGINES:
        raise UnknownEngine(engine, ENGINES)
    return engine
