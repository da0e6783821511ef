"""Step 12: a quantized net as the bytes of `init_net.pb` and `predict_net.pb`, as Caffe2 demands them."""

from collections.abc import Iterator

from imagequeue_worker.caffe2.arguments import argument_of
from imagequeue_worker.caffe2.netdef import Argument, NetDef, OperatorDef
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.tensor import QTensor

from .integers import Int8Layer
from .quantizer import QuantizedNet

IMAGE, OUTPUT = "data", "softmax"


def net_files(net: QuantizedNet, name: str) -> dict[str, bytes]:
    """Encode a net: file name -> bytes. Images go in as float NCHW `data`, probabilities come out as `softmax`."""
    fills = [fill for layer in net.layers for fill in _fills(layer)]
    constants = [blob for fill in fills for blob in fill.outputs]
    height, width, _ = net.input_shape
    predict = NetDef(
        name,
        tuple(_operators(net)),
        (Argument("input_size", ints=(height, width)),),
        (IMAGE, *constants),
        # The float blob: Caffe2's Predictor refuses an Int8 tensor.
        (OUTPUT,),
    )
    init = NetDef(f"{name}_init", tuple(fills), external_outputs=tuple(constants))
    return {"init_net.pb": write_net(init), "predict_net.pb": write_net(predict)}


def _operators(net: QuantizedNet) -> Iterator[OperatorDef]:
    names = {net.input_name: f"{IMAGE}_int8"}
    yield OperatorDef("NCHW2NHWC", (IMAGE,), (f"{IMAGE}_nhwc",))
    yield _operator(
        "Int8Quantize",
        (f"{IMAGE}_nhwc",),
        f"{IMAGE}_int8",
        {"Y_scale": net.input.scale, "Y_zero_point": net.input.zero_point},
    )
    for layer in net.layers:
        names[layer.name] = blob_of(layer.name)
        inputs = [names[source] for source in layer.inputs]
        inputs += [blob for fill in _fills(layer) for blob in fill.outputs]
        yield _operator(layer.op_type, tuple(inputs), names[layer.name], layer.arguments)
    probabilities = f"{OUTPUT}_int8"
    softmax = {"order": "NHWC", "Y_scale": 1 / 256, "Y_zero_point": 0}
    yield _operator("Int8Softmax", (names[net.layers[-1].name],), probabilities, softmax)
    yield OperatorDef("Int8Dequantize", (probabilities,), (OUTPUT,))


def blob_of(name: str) -> str:
    """Name a layer's blob; no layer's name can be that of the image or the probabilities."""
    return f"layer_{name}" if name.startswith((IMAGE, OUTPUT)) else name


def _operator(op_type: str, inputs: tuple[str, ...], output: str, args: dict[str, object]) -> OperatorDef:
    return OperatorDef(op_type, inputs, (output,), tuple(argument_of(key, value) for key, value in args.items()))


def _fills(layer: Int8Layer) -> Iterator[OperatorDef]:
    for suffix, tensor in zip(("w", "b"), layer.constants, strict=False):
        is_weights = suffix == "w"
        values = (
            Argument("values", s=tensor.data.tobytes())
            if is_weights
            else Argument("values", ints=tuple(int(value) for value in tensor.data))
        )
        op_type = "Int8GivenTensorFill" if is_weights else "Int8GivenIntTensorFill"
        yield OperatorDef(op_type, (), (f"{blob_of(layer.name)}_{suffix}",), (*_shape(tensor), values))


def _shape(tensor: QTensor) -> tuple[Argument, ...]:
    return (
        Argument("shape", ints=tensor.shape),
        Argument("Y_scale", f=tensor.scale),
        Argument("Y_zero_point", i=tensor.zero_point),
    )
