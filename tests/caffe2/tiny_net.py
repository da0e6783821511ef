"""A net of nine operators on 8 x 8 pictures: small enough to break in every possible place."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from imagequeue_worker.caffe2.arguments import argument_of
from imagequeue_worker.caffe2.netdef import NetDef, OperatorDef
from imagequeue_worker.caffe2.netdef_writer import write_net

SIZE = 8


def operator(op_type: str, inputs: str, outputs: str, **args: object) -> OperatorDef:
    """Make an operator; blobs are separated by spaces."""
    return OperatorDef(
        op_type,
        tuple(inputs.split()),
        tuple(outputs.split()),
        tuple(argument_of(name, value) for name, value in args.items()),
    )


def fill(name: str, shape: tuple[int, ...], scale: float, zero_point: int = 128) -> OperatorDef:
    """Make seeded weights."""
    values = np.random.default_rng(len(shape)).integers(90, 166, shape).astype(np.uint8).tobytes()
    return operator(
        "Int8GivenTensorFill",
        "",
        name,
        shape=list(shape),
        values=values,
        Y_scale=scale,
        Y_zero_point=zero_point,
    )


def bias(name: str, count: int, scale: float) -> OperatorDef:
    """Make a bias."""
    values = list(range(-count, 3 * count, 4))[:count]
    return operator("Int8GivenIntTensorFill", "", name, shape=[count], values=values, Y_scale=scale, Y_zero_point=0)


def tiny_init() -> NetDef:
    """Make the constants."""
    return NetDef(
        "tiny_init",
        (
            fill("w1", (4, 3, 3, 3), 0.01),
            bias("b1", 4, 0.0002),
            fill("w2", (5, 4), 0.02),
            bias("b2", 5, 0.001),
        ),
    )


def tiny_predict() -> NetDef:
    """Make the graph."""
    conv = {"kernel": 3, "pad": 1, "order": "NHWC", "Y_scale": 0.05, "Y_zero_point": 3}
    ops = (
        operator("NCHW2NHWC", "data", "nhwc"),
        operator("Int8Quantize", "nhwc", "q", Y_scale=0.02, Y_zero_point=114),
        operator("Int8Conv", "q w1 b1", "conv", **conv),
        operator("Int8Relu", "conv", "relu", order="NHWC", Y_scale=0.05, Y_zero_point=3),
        operator("Int8AveragePool", "relu", "pool", order="NHWC", kernel=SIZE, Y_scale=0.05, Y_zero_point=3),
        operator("Int8FC", "pool w2 b2", "fc", Y_scale=0.1, Y_zero_point=100),
        operator("Int8Softmax", "fc", "bytes", Y_scale=1 / 256, Y_zero_point=0),
        operator("Int8Dequantize", "bytes", "softmax"),
    )
    return NetDef("tiny", ops, (argument_of("input_size", [SIZE, SIZE]),), ("data", "w1", "b1", "w2", "b2"), ("bytes",))


def change(net: NetDef, output: str, **changes: object) -> NetDef:
    """Change fields of the operator that writes a blob; of `args`, a dict, None drops an argument."""
    ops = []
    for op in net.ops:
        if output in op.outputs:
            args = changes.pop("args", {})
            kept = [arg for arg in op.args if arg.name not in args]
            new = [argument_of(name, value) for name, value in args.items() if value is not None]
            op = replace(op, args=(*kept, *new), **changes)
        ops.append(op)
    return replace(net, ops=tuple(ops))


def write(folder: Path, init: NetDef | None = None, predict: NetDef | None = None) -> Path:
    """Write both files; by default the tiny net's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "init_net.pb").write_bytes(write_net(init or tiny_init()))
    (folder / "predict_net.pb").write_bytes(write_net(predict or tiny_predict()))
    return folder
