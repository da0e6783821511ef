"""From a PyTorch model to plain nodes: the only file here that knows torch, and it is imported on use.

`load_model` finds a model by name, `read_nodes` exports it (`torch.export`) and copies its ATen graph and its
weights into numpy, `model_outputs` runs it for comparison.
"""

import importlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from imagequeue_worker.caffe2.tensor import Array

from .errors import InvalidModel, ModelNotLoadable, TorchMissing
from .nodes import Node, Nodes


def load_model(model: str) -> Any:  # noqa: ANN401  a module or an exported program
    """Load `package.module:callable` (the working directory comes first on the path), or a `.pt2` file.

    Raises:
        TorchMissing, ModelNotLoadable: See each.
    """
    torch = import_torch()
    if model.endswith(".pt2"):
        if not Path(model).is_file():
            raise ModelNotLoadable(f"{model} is not a file; write it with torch.export.save(program, {model!r})")
        try:
            return torch.export.load(model)
        except Exception as error:
            raise ModelNotLoadable(f"{model} is no torch.export file: {_first_line(error)}; export it again") from error
    module, _, name = model.partition(":")
    if not module or not name:
        raise ModelNotLoadable(f"model is {model!r}; must be package.module:callable, or a file ending in .pt2")
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109  a string of sys.path
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelNotLoadable(f"{model} cannot be imported: {_first_line(error)}; check its spelling") from error
    try:
        return factory if isinstance(factory, torch.nn.Module) else factory()
    except Exception as error:
        raise ModelNotLoadable(f"{model}() failed: {type(error).__name__}: {_first_line(error)}") from error


def read_nodes(model: Any, input_size: int) -> Nodes:  # noqa: ANN401
    """Export a module for one picture of `input_size` squared (an exported program has its own size).

    Raises:
        ModelNotLoadable: No module, or one that cannot be exported.
        InvalidModel: Dynamic shapes, several inputs or outputs, weights that are not finite.
    """
    torch = import_torch()
    program = model
    if not isinstance(model, torch.export.ExportedProgram):
        if not isinstance(model, torch.nn.Module):
            raise ModelNotLoadable(
                f"the model is a {type(model).__name__}, without eval mode; must be a torch.nn.Module "
                "(or a callable that returns one), or an exported program"
            )
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(model.eval(), (torch.zeros(1, 3, input_size, input_size),))
        except Exception as error:
            raise ModelNotLoadable(
                f"torch.export cannot trace the model at {input_size}x{input_size}: {_first_line(error)}"
            ) from error
    return _copy(program)


def model_outputs(model: Any, images: Array) -> Array:  # noqa: ANN401
    """Run the model on float32 images [N, C, H, W], one at a time: [N, classes]."""
    torch = import_torch()
    runner = model.module() if isinstance(model, torch.export.ExportedProgram) else model.eval()
    with _quiet(), torch.no_grad():
        return np.concatenate([runner(torch.from_numpy(image[np.newaxis].copy())).numpy() for image in images])


def import_torch() -> Any:  # noqa: ANN401
    """Import torch, or say how to get it."""
    try:
        import torch
        import torch.export
    except ImportError as error:
        raise TorchMissing from error
    return torch


def use_threads(threads: int) -> None:
    """Fix the number of torch's threads: its sums depend on it."""
    import_torch().set_num_threads(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Models that print while they run do not disturb a command's output."""
    with redirect_stdout(io.StringIO()):
        yield


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _copy(program: Any) -> Nodes:  # noqa: ANN401
    """Copy graph and weights out of an exported program."""
    signature = program.graph_signature
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    tensors = {**dict(program.named_buffers()), **program.constants, **program.state_dict}
    if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
        raise InvalidModel(
            f"the model has {len(signature.user_inputs)} inputs and {len(signature.user_outputs)} outputs; "
            "must have one each: images and logits"
        )
    weights = {name: _weights(target, tensors[target]) for name, target in targets.items()}
    nodes = [_node(node) for node in program.graph.nodes if node.op == "call_function"]
    shapes = {node.name: _shape(node) for node in program.graph.nodes if node.op in ("placeholder", "call_function")}
    entry = signature.user_inputs[0]
    return Nodes(entry, signature.user_outputs[0], tuple(nodes), weights, shapes)


def _weights(name: str, tensor: Any) -> Array:  # noqa: ANN401
    values: Array = tensor.detach().cpu().numpy()
    if not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise InvalidModel(f"{name} has {bad} of {values.size} values that are NaN or infinite; train the model again")
    return values.astype(np.float64)


def _node(node: Any) -> Node:  # noqa: ANN401
    schema = list(node.target._schema.arguments) if hasattr(node.target, "_schema") else []
    arguments = {argument.name: argument.default_value for argument in schema}
    arguments.update(zip([argument.name for argument in schema], node.args, strict=False))
    arguments.update(node.kwargs)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    plain = {name: _plain(value) for name, value in arguments.items()}
    return Node(node.name, str(node.target).removeprefix("aten."), plain, path)


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Nodes become their names; lists become tuples."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return value.name if type(value).__name__ == "Node" else value


def _shape(node: Any) -> tuple[int, ...]:  # noqa: ANN401
    shape = getattr(node.meta.get("val"), "shape", ())
    if not all(isinstance(extent, int) for extent in shape):
        raise InvalidModel(
            f"{node.name} has the dynamic shape {list(map(str, shape))}; sizes must be fixed; "
            "export without dynamic_shapes"
        )
    return tuple(int(extent) for extent in shape)
