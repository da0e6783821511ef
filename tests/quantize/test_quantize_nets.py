"""Whole nets: what is written is what was computed, by every engine and by the definitions; the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import emulation
import float_models
import numpy as np
import pytest
import torch

from imagequeue_worker.caffe2 import PixelScaling, QTensor, available_engines, load_net
from imagequeue_worker.caffe2.netdef import read_net
from imagequeue_worker.caffe2.quantize import (
    InvalidCalibration,
    InvalidModel,
    QuantizedNet,
    fold,
    importer,
    net_files,
    quantize_net,
    read_layers,
)
from imagequeue_worker.caffe2.quantize.layers import FloatNet
from imagequeue_worker.caffe2.quantize.writer import blob_of
from imagequeue_worker.making.make_net import import_model
from synthetic_net import synthetic_pictures

SCALING = PixelScaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PICTURES = synthetic_pictures(12, 32, seed=3)
MODELS = ("resnet", "mobilenet", "mnasnet", "vgg_like")


@pytest.fixture(scope="module", params=MODELS)
def float_net(request: pytest.FixtureRequest) -> FloatNet:
    return import_model(getattr(float_models, request.param)(), 32, threads=1)


@pytest.fixture(scope="module")
def quantized(float_net: FloatNet) -> QuantizedNet:
    return quantize_net(float_net, PICTURES, SCALING)


@pytest.fixture
def folder(quantized: QuantizedNet, tmp_path: Path) -> Path:
    for name, data in net_files(quantized, "net").items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("engine", available_engines())
def test_a_written_net_gives_the_quantizers_own_logits(folder: Path, quantized: QuantizedNet, engine: str) -> None:
    net = load_net(folder, engine=engine, scaling=SCALING)
    logits = net.run_blobs(net.float_input(PICTURES))[blob_of(quantized.layers[-1].name)]
    assert isinstance(logits, QTensor)
    assert np.array_equal(logits.data.reshape(len(PICTURES), -1), quantized.student_logits)


def test_every_blob_is_what_the_definitions_say(folder: Path, quantized: QuantizedNet) -> None:
    net = load_net(folder, engine="portable", scaling=SCALING)
    blobs = net.run_blobs(net.float_input(PICTURES[:3]))
    names = {quantized.input_name: "data_int8", **{one.name: blob_of(one.name) for one in quantized.layers}}
    scales = {quantized.input_name: quantized.input, **{one.name: one.output for one in quantized.layers}}
    for layer in quantized.layers:
        inputs = [blobs[names[source]].data for source in layer.inputs]
        wanted = emulation.run_layer(layer, inputs, [scales[source] for source in layer.inputs])
        assert np.array_equal(blobs[names[layer.name]].data, wanted), layer.name


def test_an_int8_net_stays_close_to_its_float_net(quantized: QuantizedNet) -> None:
    assert max(report.error for report in quantized.reports) < 0.05
    assert quantized.agreement >= 0.9


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads(float_net: FloatNet, quantized: QuantizedNet) -> None:
    again = quantize_net(float_net, PICTURES, SCALING, threads=2)
    assert net_files(again, "net") == net_files(quantized, "net")


def test_a_net_has_what_caffe2_demands(quantized: QuantizedNet) -> None:
    files = net_files(quantized, "net")
    init, predict = read_net(files["init_net.pb"]), read_net(files["predict_net.pb"])
    constants = [name for op in init.ops for name in op.outputs]
    assert predict.external_inputs == ("data", *constants)
    assert predict.external_outputs == ("softmax",)
    assert [op.type for op in predict.ops[:2]] == ["NCHW2NHWC", "Int8Quantize"]
    assert [op.type for op in predict.ops[-2:]] == ["Int8Softmax", "Int8Dequantize"]
    for op in predict.ops[2:-1]:
        assert {arg.name: arg.s for arg in op.args}["order"] == b"NHWC", op.type
        assert len(op.inputs) == {"Int8Conv": 3, "Int8ConvRelu": 3, "Int8FC": 3}.get(op.type, len(op.inputs))


def test_progress_is_told_layer_by_layer() -> None:
    seen = []
    net = import_model(float_models.mobilenet(), 32, threads=1)
    quantize_net(net, PICTURES[:2], SCALING, progress=lambda report, total: seen.append((report.name, total)))
    assert [name for name, _ in seen] == [layer.name for layer in net.layers]
    assert {total for _, total in seen} == {len(net.layers)}


def test_pictures_of_another_size_are_refused() -> None:
    net = import_model(float_models.mobilenet(), 32, threads=1)
    with pytest.raises(InvalidCalibration, match=r"uint8 \[12, 16, 32, 3\]; must be uint8 \['N', 32, 32, 3\]"):
        quantize_net(net, PICTURES[:, :16], SCALING)
    with pytest.raises(InvalidCalibration, match="at least 1"):
        quantize_net(net, PICTURES[:0], SCALING)


def test_a_layer_that_overflows_is_named() -> None:
    model = float_models.mobilenet()
    with torch.no_grad():
        model.features[0].weight *= 1e38
        model.features[1].running_var.fill_(1e-20)
    net = fold(read_layers(importer.read_nodes(model, 32)))
    with pytest.raises(InvalidModel, match=r"features\.0 computes NaN or infinity"):
        quantize_net(net, PICTURES, SCALING)
    with pytest.raises(InvalidModel, match="the model computes NaN or infinity"):
        import_model(model, 32, threads=1)


def test_a_net_of_zeros_is_written_and_runs(tmp_path: Path) -> None:
    model = float_models.mobilenet()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    quantized = quantize_net(import_model(model, 32, 1), PICTURES, SCALING)
    for name, data in net_files(quantized, "zeros").items():
        (tmp_path / name).write_bytes(data)
    assert load_net(tmp_path, scaling=SCALING).run_pixels(PICTURES)["softmax"].shape == (12, 10)
