"""A .tflite net becomes the Caffe2 net that Caffe2 demands, and every layer gives TFLite's bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from imagequeue_worker.caffe2 import Net
from imagequeue_worker.caffe2.netdef import OperatorDef, read_net
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.tflite import ImportedNet, convert_tflite
from tflite.litert import REFERENCE, LiteRT
from tflite.tiny_tflite import AVERAGE_POOL_2D, CONV_2D, NONE, SIX, TinyNet, mobile_net, oblong_net, other_net, picture

Load = Callable[[ImportedNet], Net]


def arguments(op: OperatorDef) -> dict[str, object]:
    return {arg.name: arg.i if arg.i is not None else arg.f if arg.f is not None else arg.s for arg in op.args}


def test_the_graph_is_what_caffe2_runs() -> None:
    net = convert_tflite(mobile_net().file(), "tiny")
    assert [op.type for op in net.predict.ops] == [
        "NCHW2NHWC", "Int8Quantize", "Int8ConvRelu", "Int8ConvRelu", "Int8Conv", "Int8Conv", "Int8Add",
        "Int8ConvRelu", "Int8AveragePool", "Int8Conv", "Int8Flatten", "Int8Softmax", "Int8Dequantize",
    ]  # fmt: skip
    constants = tuple(op.outputs[0] for op in net.init.ops)
    assert net.predict.external_inputs == ("data", *constants)
    assert net.predict.external_outputs == ("softmax",)
    assert (net.classes, net.input_size) == (7, (10, 10))


def test_same_padding_at_stride_two_is_asymmetric_as_tensorflow_has_it() -> None:
    conv = convert_tflite(mobile_net().file(), "tiny").predict.ops[2]
    args = arguments(conv)
    assert [args[f"pad_{side}"] for side in "tlbr"] == [0, 0, 1, 1]
    assert (args["kernel"], args["stride"], args["order"]) == (3, 2, b"NHWC")


def test_depthwise_weights_move_their_channels_to_the_front() -> None:
    tiny = mobile_net(multiplier=2)
    original = np.frombuffer(tiny.buffers[3][0], np.uint8).reshape(1, 3, 3, 12)
    fill = convert_tflite(tiny.file(), "tiny").init.ops[2]
    values = {arg.name: arg for arg in fill.args}
    assert values["shape"].ints == (12, 3, 3, 1)
    assert values["values"].s == original.transpose(3, 1, 2, 0).tobytes()


def test_the_net_sees_the_pixels_bytes(load: Load) -> None:
    net = load(convert_tflite(mobile_net().file(), "tiny"))
    assert np.array_equal(net.pixel_table, np.tile(np.arange(256), (3, 1)))


@pytest.mark.parametrize(("scale", "zero_point"), [(1 / 255, 0), (0.0078431377, 127), (1.0, 0), (0.018658447, 114)])
def test_so_it_does_for_other_input_quantizations(scale: float, zero_point: int, load: Load) -> None:
    tiny = TinyNet()
    x = tiny.tensor("input", (1, 10, 10, 3), scale, zero_point)
    x = tiny.conv(x, scale, 4, (1, 10, 10, 4), 1, activation=NONE, ys=300 * scale, yz=100)
    x = tiny.mean(x, (1, 4), 300 * scale, 100)
    tiny.softmax(x)
    net = load(convert_tflite(tiny.file(), "tiny"))
    assert np.array_equal(net.pixel_table, np.tile(np.arange(256), (3, 1)))


def test_a_bias_that_is_left_out_is_zeros() -> None:
    tiny = TinyNet()
    x = picture(tiny)
    w, _ = tiny.parameters("conv", (4, 1, 1, 3), 4, 0.004, 1 / 128)
    y = tiny.tensor("conv", (1, 10, 10, 4), SIX)
    y = tiny.operator(CONV_2D, [x, w, -1], y, 1, mobile_net().operators[2][4])
    tiny.softmax(tiny.mean(y, (1, 4)))
    bias = convert_tflite(tiny.file(), "tiny").init.ops[1]
    assert {arg.name: arg.ints for arg in bias.args}["values"] == (0, 0, 0, 0)


def test_layers_may_have_one_name_any_name_or_that_of_our_own_blobs(load: Load) -> None:
    tiny = mobile_net()
    for number, name in ((3, "softmax"), (6, "softmax"), (9, "data"), (12, "a b\n\x1b[31m;rest"), (13, "")):
        tiny.tensors[number][3] = name
    net = convert_tflite(tiny.file(), "tiny")
    assert [layer.name for layer in net.layers[1:6]] == ["softmax_2", "softmax_3", "data_2", "a_b_31m", "tensor_13"]
    assert load(net).output_name == "softmax"


def test_net_and_layers_know_each_tensors_number() -> None:
    net = convert_tflite(mobile_net().file(), "tiny")
    assert [layer.tensor for layer in net.layers] == [0, 3, 6, 9, 12, 13, 16, 17, 20, 21, 23, 23]


def test_the_same_file_gives_the_same_bytes() -> None:
    first, second = (convert_tflite(other_net(5).file(), "tiny") for _ in range(2))
    assert write_net(first.init) + write_net(first.predict) == write_net(second.init) + write_net(second.predict)
    assert read_net(write_net(first.predict)) == first.predict


@pytest.mark.parametrize("make", [mobile_net, other_net, oblong_net])
@pytest.mark.parametrize("seed", range(4))
def test_every_tensor_is_that_of_tflites_reference_kernels(
    make: Callable[[int], TinyNet], seed: int, load: Load
) -> None:
    pytest.importorskip("ai_edge_litert")
    data = make(seed).file()
    imported = convert_tflite(data, "tiny")
    judge, net = LiteRT(data, REFERENCE, keep=True), load(imported)
    last = {layer.tensor: layer for layer in imported.layers if layer.name != "softmax"}
    for pixels in np.random.default_rng(seed).integers(0, 256, (5, *net.input_size, 3)).astype(np.uint8):
        judge.run(pixels)
        blobs = net.run_blobs(net.float_input(pixels[np.newaxis]))
        for number, layer in last.items():
            steps = np.abs(blobs[layer.name].data.astype(int) - judge.tensor(number)).max()
            if layer.source == "FULLY_CONNECTED":  # LiteRT rounds once there, even in its reference kernels
                assert steps <= 1
                break
            assert steps == 0, layer


def test_an_average_differs_only_where_it_is_halfway_between_two_bytes(load: Load) -> None:
    pytest.importorskip("ai_edge_litert")
    tiny = TinyNet()
    x = tiny.conv(picture(tiny), 1 / 128, 64, (1, 10, 10, 64), 3)
    x = tiny.pool(AVERAGE_POOL_2D, x, (3, 4), (1, 8, 7, 64))
    tiny.softmax(tiny.mean(x, (1, 64)))
    imported = convert_tflite(tiny.file(), "tiny")
    judge, net = LiteRT(tiny.file(), REFERENCE, keep=True), load(imported)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 10, 3)).astype(np.uint8)
    judge.run(pixels)
    blobs = net.run_blobs(net.float_input(pixels[np.newaxis]))
    conv, pool = (judge.tensor(layer.tensor).astype(int) for layer in imported.layers[1:3])
    sums = np.lib.stride_tricks.sliding_window_view(conv, (3, 4), axis=(1, 2)).sum(axis=(-2, -1))
    steps = blobs[imported.layers[2].name].data.astype(int) - pool
    assert set(np.unique(steps)) <= {-1, 0}
    assert np.all(sums[steps != 0] % 12 == 6)


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 1, 4)])
def test_mean_differs_by_one_step_at_most(shape: tuple[int, ...], load: Load) -> None:
    pytest.importorskip("ai_edge_litert")
    tiny = TinyNet()
    x = tiny.conv(picture(tiny), 1 / 128, 4, (1, 10, 10, 4), 3)
    x = tiny.mean(x, shape, 0.02, 10)
    tiny.softmax(tiny.fully_connected(x, 0.02, 3))
    imported = convert_tflite(tiny.file(), "tiny")
    judge, net = LiteRT(tiny.file(), REFERENCE, keep=True), load(imported)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 10, 3)).astype(np.uint8)
    judge.run(pixels)
    blobs = net.run_blobs(net.float_input(pixels[np.newaxis]))
    (layer,) = (layer for layer in imported.layers if layer.source == "MEAN")
    assert np.abs(blobs[layer.name].data.astype(int) - judge.tensor(layer.tensor)).max() <= 1


def test_batches_give_what_single_pictures_give(load: Load) -> None:
    net = load(convert_tflite(other_net().file(), "tiny"))
    pixels = np.random.default_rng(1).integers(0, 256, (7, 10, 10, 3)).astype(np.uint8)
    single = np.concatenate([net.run_pixels(one[np.newaxis])["softmax"] for one in pixels])
    assert np.array_equal(net.run_pixels(pixels)["softmax"], single)
