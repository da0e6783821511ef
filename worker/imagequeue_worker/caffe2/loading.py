"""From files to a loaded net, and from one operator's inputs to its outputs."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .arguments import Arguments
from .engines import choose_engine
from .errors import InvalidInput, NetFormatError, NetNotFound
from .graph import build_graph
from .net import Net
from .netdef import NetDef, read_net
from .operators import Scratch, make_operator
from .pixels import ZOO_SCALING, PixelScaling
from .single import run_single
from .tensor import Array, QTensor, spec_of, value_of

MAX_FILE_BYTES = 128 << 20
MAX_THREADS = 256


def load_net(
    *paths: str | Path,
    engine: str = "auto",
    scaling: PixelScaling = ZOO_SCALING,
    input_size: tuple[int, int] | None = None,
    threads: int = 1,
) -> Net:
    """Load a net, checking everything, so that nothing can fail in the middle of a batch.

    Args:
        paths: A folder that holds `init_net.pb` and `predict_net.pb`; or these two files, in this order.
        engine: One of `available_engines()`, or "auto".
        scaling: The mean and standard deviation of its pixels; by default those of the model zoo.
        input_size: (height, width), for nets that do not fix it; else what the net says, or 224 x 224 if that
            fits.
        threads: Among how many threads a native engine shares out the images of a call; workers have a process per
            core, and one thread in each.

    Raises:
        NetNotFound: No such file.
        NetFormatError: The bytes are no NetDef.
        UnsupportedOperator, InvalidNet, InvalidOperator: What the net contains cannot be run.
        UnknownEngine: No such engine here.
    """
    chosen = choose_engine(engine)
    if not 1 <= threads <= MAX_THREADS:
        raise InvalidInput(f"threads is {threads}; must be 1 to {MAX_THREADS}")
    if len(paths) not in (1, 2):
        raise InvalidInput(f"load_net got {len(paths)} paths; give a folder, or init_net.pb and predict_net.pb")
    init, predict = (Path(paths[0]) / f"{n}_net.pb" for n in ("init", "predict")) if len(paths) == 1 else paths
    init_bytes, predict_bytes = _read_file(Path(init)), _read_file(Path(predict))
    graph = build_graph(_read_net(init_bytes, init), _read_net(predict_bytes, predict))
    return Net(graph, hashlib.sha256(init_bytes + predict_bytes).hexdigest(), chosen, scaling, input_size, threads)


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise NetNotFound(f"{path} is not a file; a net is a folder with init_net.pb and predict_net.pb")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise NetNotFound(f"{path} cannot be read: {error.strerror}; check its permissions") from error
    if len(data) > MAX_FILE_BYTES:
        raise NetFormatError(f"{path} has more than {MAX_FILE_BYTES:,} bytes; this is no net that could be run")
    return data


def _read_net(data: bytes, path: str | Path) -> NetDef:
    try:
        net = read_net(data)
    except NetFormatError as error:
        raise NetFormatError(f"{path}: {error}; fetch the file again and compare its checksum") from None
    if not net.ops:
        raise NetFormatError(f"{path}: holds no operators ({len(data):,} bytes); fetch the file again")
    return net


def run_operator(
    op_type: str, inputs: Sequence[QTensor | Array], args: Mapping[str, Any], engine: str = "auto"
) -> list[QTensor | Array]:
    """Run one operator.

    Args:
        op_type: As in Caffe2, e.g. "Int8Conv".
        inputs: `QTensor`, or numpy arrays of float32, int32 or int64.
        args: Names and values: int, float, str, bytes or lists of one of them.
        engine: As for `load_net`; what it has no kernel for, the portable one runs.

    Returns:
        `QTensor` for quantized outputs, else numpy arrays.

    Raises:
        UnsupportedOperator, InvalidOperator, InvalidInput, UnknownEngine: See each.
    """
    chosen = choose_engine(engine)
    specs, arguments = [spec_of(value) for value in inputs], Arguments.of(op_type, args)
    operator = make_operator(specs, arguments)
    path = chosen.removeprefix("native/")
    native = run_single(path, specs, arguments, operator.outputs[0]) if path != chosen else None
    if native is not None:
        return [value_of(operator.outputs[0], native)]
    results = operator.run([spec.constant for spec in specs if spec.constant is not None], Scratch())
    return [value_of(spec, data) for spec, data in zip(operator.outputs, results, strict=True)]
