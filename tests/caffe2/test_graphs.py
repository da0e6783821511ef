"""Faults of a graph are found at load and named; graphs that Caffe2 runs are run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caffe2.tiny_net import SIZE, bias, change, fill, operator, tiny_init, tiny_predict, write
from imagequeue_worker.caffe2 import (
    Caffe2Error,
    InvalidNet,
    InvalidOperator,
    Net,
    UnsupportedOperator,
    load_net,
)
from imagequeue_worker.caffe2.netdef import NetDef


def test_the_tiny_net_runs(tmp_path: Path):
    net = load_net(write(tmp_path))
    assert net.run_pixels(np.zeros((2, SIZE, SIZE, 3), np.uint8))["softmax"].shape == (2, 5)


def load(tmp_path: Path, init: NetDef | None = None, predict: NetDef | None = None, **kwargs) -> Net:
    return load_net(write(tmp_path, init, predict), **kwargs)


def test_an_unknown_operator_is_named_with_the_known_ones(tmp_path: Path):
    with pytest.raises(UnsupportedOperator, match=r"'Int8Magic'.*Int8Conv"):
        load(tmp_path, predict=change(tiny_predict(), "conv", type="Int8Magic"))


def test_a_blob_must_be_written_before_it_is_read(tmp_path: Path):
    with pytest.raises(InvalidNet, match=r"reads blob 'later'"):
        load(tmp_path, predict=change(tiny_predict(), "relu", inputs=("later",)))
    net = tiny_predict()
    with pytest.raises(InvalidNet, match=r"reads blob 'conv'"):
        load(tmp_path, predict=replace(net, ops=(*net.ops[:2], net.ops[3], net.ops[2], *net.ops[4:])))


def test_a_missing_constant_is_named(tmp_path: Path):
    init = tiny_init()
    with pytest.raises(InvalidNet, match="2 inputs besides its constants"):
        load(tmp_path, init=replace(init, ops=init.ops[1:]))
    with pytest.raises(InvalidNet, match="'w1'"):
        load(tmp_path, replace(init, ops=init.ops[1:]), replace(tiny_predict(), external_inputs=("data",)))


def test_weights_must_fit_the_graph(tmp_path: Path):
    init = tiny_init()
    with pytest.raises(InvalidOperator, match=r"Int8Conv.*writes conv.*weights have shape"):
        load(tmp_path, replace(init, ops=(fill("w1", (4, 3, 3, 2), 0.01), *init.ops[1:])))
    with pytest.raises(InvalidOperator, match="bias has 5"):
        load(tmp_path, replace(init, ops=(init.ops[0], bias("b1", 5, 0.1), *init.ops[2:])))
    with pytest.raises(InvalidOperator, match=r"input has 4 values each, weights 3"):
        load(tmp_path, replace(init, ops=(*init.ops[:2], fill("w2", (5, 3), 0.01), init.ops[3])))


@pytest.mark.parametrize("scale", [0.0, -0.1, float("inf"), float("nan")])
@pytest.mark.parametrize("blob", ["q", "conv", "relu", "pool", "fc"])
def test_scales_are_checked_at_load(tmp_path: Path, blob: str, scale: float):
    with pytest.raises(InvalidOperator, match="Y_scale"):
        load(tmp_path, predict=change(tiny_predict(), blob, args={"Y_scale": scale}))


def test_a_requantization_scale_of_one_is_refused_at_load(tmp_path: Path):
    with pytest.raises(InvalidOperator, match=r"must be in \[2\^-32, 1\)"):
        load(tmp_path, predict=change(tiny_predict(), "conv", args={"Y_scale": 0.0001}))


def test_weights_must_be_constants(tmp_path: Path):
    with pytest.raises(InvalidOperator, match="constants of init_net"):
        load(tmp_path, predict=change(tiny_predict(), "fc", inputs=("pool", "pool", "b2")))


def test_a_net_needs_a_float_output(tmp_path: Path):
    net = tiny_predict()
    with pytest.raises(InvalidNet, match="append an Int8Dequantize"):
        load(tmp_path, predict=replace(net, ops=net.ops[:-1]))


def test_the_image_must_be_quantized_first(tmp_path: Path):
    with pytest.raises(InvalidNet, match="must go to one Int8Quantize"):
        load(tmp_path, predict=change(tiny_predict(), "q", type="NHWC2NCHW"))


@pytest.mark.parametrize(("blob", "inputs"), [("nhwc", ("data", "w1")), ("q", ("nhwc", "b1")), ("q", ("nhwc", "nhwc"))])
def test_what_quantizes_the_image_reads_nothing_else(tmp_path: Path, blob: str, inputs: tuple[str, ...]):
    with pytest.raises(InvalidNet, match="the image, alone"):
        load(tmp_path, predict=change(tiny_predict(), blob, inputs=inputs))


def test_outputs_must_exist(tmp_path: Path):
    with pytest.raises(InvalidNet, match="names 2 outputs"):
        load(tmp_path, predict=change(tiny_predict(), "relu", outputs=("relu", "more")))
    with pytest.raises(InvalidNet, match="all different"):
        load(tmp_path, predict=change(tiny_predict(), "relu", outputs=("relu", "relu")))


def test_operators_may_work_in_place(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    plain = load(tmp_path / "plain").run_pixels(pixels)["softmax"]
    predict = change(change(tiny_predict(), "relu", outputs=("conv",)), "pool", inputs=("conv",))
    assert np.array_equal(load(tmp_path / "in_place", predict=predict).run_pixels(pixels)["softmax"], plain)


def test_a_net_without_transposition_takes_nhwc(tmp_path: Path):
    net = tiny_predict()
    predict = change(replace(net, ops=net.ops[1:]), "q", inputs=("data",))
    loaded, pixels = load(tmp_path, predict=predict), np.full((1, SIZE, SIZE, 3), 77, np.uint8)
    inputs = loaded.float_input(pixels)
    assert inputs["data"].shape == (1, SIZE, SIZE, 3)
    assert np.array_equal(loaded.run(inputs)["softmax"], loaded.run_pixels(pixels)["softmax"])


def test_a_net_that_transposes_bytes_takes_nchw(tmp_path: Path):
    net = tiny_predict()
    head = (
        operator("Int8Quantize", "data", "q0", Y_scale=0.02, Y_zero_point=114),
        operator("Int8Transpose", "q0", "q", axes=[0, 2, 3, 1], Y_scale=0.02, Y_zero_point=114),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    loaded = load(tmp_path / "bytes", predict=replace(net, ops=(*head, *net.ops[2:])))
    plain = load(tmp_path / "plain").run_pixels(pixels)["softmax"]
    inputs = loaded.float_input(pixels)
    assert inputs["data"].shape == (2, 3, SIZE, SIZE)
    assert np.array_equal(loaded.run_pixels(pixels)["softmax"], plain)
    assert np.array_equal(loaded.run(inputs)["softmax"], plain)


def test_the_input_size_follows_from_the_graph_or_is_given(tmp_path: Path):
    net = replace(tiny_predict(), args=())
    predict = change(net, "pool", args={"kernel": 32})
    assert load(tmp_path, predict=predict).input_size == (32, 32)
    everywhere = change(net, "pool", args={"kernel": None, "global_pooling": 1})
    assert load(tmp_path, predict=everywhere).input_size == (224, 224)
    assert load(tmp_path, predict=everywhere, input_size=(5, 9)).input_size == (5, 9)
    with pytest.raises(InvalidOperator, match="Int8AveragePool"):
        load(tmp_path, input_size=(4, 4))


def test_images_of_a_batch_stay_apart_or_are_run_together(tmp_path: Path):
    net = tiny_predict()
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)

    def reshaped(shape: list[int]) -> NetDef:
        reshape = operator("Int8Reshape", "pool", "flat old", shape=shape, Y_scale=0.05, Y_zero_point=3)
        return change(replace(net, ops=(*net.ops[:5], reshape, *net.ops[5:])), "fc", inputs=("flat", "w2", "b2"))

    plain = load(tmp_path / "plain").run_pixels(pixels)["softmax"]
    for shape in ([0, -1], [-1, 4]):
        assert np.array_equal(load(tmp_path / "apart", predict=reshaped(shape)).run_pixels(pixels)["softmax"], plain)
    # A fixed first dimension works for one image and fails for three, as in Caffe2.
    fixed = load(tmp_path / "fixed", predict=reshaped([1, -1]))
    assert np.array_equal(fixed.run_pixels(pixels[:1])["softmax"], plain[:1])
    with pytest.raises(InvalidNet, match="batches of 3"):
        fixed.run_pixels(pixels)


@pytest.mark.parametrize(
    "args",
    [
        {"pad": 4096},
        {"pad": 4096, "stride": 4096},
        {"kernel": 4097},
        {"stride": 2**62},
        {"dilation": 2**31},
        {"pads": [2**40] * 4},
        {"kernels": [1] * 9},
    ],
)
def test_huge_geometry_is_refused_or_bounded(tmp_path: Path, args: dict[str, object]):
    with pytest.raises(Caffe2Error):
        load(tmp_path, predict=change(tiny_predict(), "conv", args=args))


def test_too_many_operators_are_refused(tmp_path: Path):
    net = tiny_predict()
    more = tuple(operator("Int8Relu", "relu", f"r{i}", Y_scale=0.05, Y_zero_point=3) for i in range(10_001))
    with pytest.raises(InvalidNet, match="the limit is 10,000"):
        load(tmp_path, predict=replace(net, ops=(*net.ops, *more)))
