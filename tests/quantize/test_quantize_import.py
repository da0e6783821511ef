"""What is read from a PyTorch model, and what is refused, each in its author's words."""

from __future__ import annotations

from pathlib import Path

import float_models
import numpy as np
import pytest
import torch
from torch import nn

from imagequeue_worker.caffe2.quantize import (
    InvalidModel,
    ModelNotLoadable,
    UnsupportedLayer,
    fold,
    importer,
    read_layers,
    reverse_channels,
)
from imagequeue_worker.caffe2.quantize.layers import Add, BatchNorm, Conv, Linear, Pool
from imagequeue_worker.caffe2.quantize.teacher import run_net
from imagequeue_worker.making.make_net import import_model

IMAGE = np.random.default_rng(7).standard_normal((1, 3, 32, 32), np.float32)


def read(model: nn.Module, size: int = 32):
    return fold(read_layers(importer.read_nodes(model, size)))


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "mnasnet", "vgg_like"])
def test_folded_layers_compute_what_the_model_computes(name: str) -> None:
    net = import_model(getattr(float_models, name)(), 32, threads=1)  # compares on random input, within 1e-4
    assert not any(isinstance(layer, BatchNorm) for layer in net.layers)


def test_layers_are_named_after_the_models_modules() -> None:
    names = [layer.name for layer in read(float_models.resnet()).layers]
    assert names[:4] == ["conv1", "maxpool", "layer1.conv1", "layer1.conv2"]
    assert names[-1] == "fc"


def test_a_sum_takes_over_the_relu_behind_it_and_an_input_read_twice_stays() -> None:
    net = read(float_models.resnet())
    adds = [layer for layer in net.layers if isinstance(layer, Add)]
    assert [add.clip for add in adds] == ["relu", "relu"]
    assert adds[0].inputs == ("layer1.conv2", "maxpool")


def test_tensorflows_asymmetric_padding_goes_into_the_convolution() -> None:
    net = read(nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(1024, 5)))
    conv = net.layers[0]
    assert isinstance(conv, Conv)
    assert conv.window.pads == (0, 0, 1, 1)


def test_sizes_rounded_up_become_padding() -> None:
    net = read(nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(768, 5)))
    pool = net.layers[0]
    assert isinstance(pool, Pool)
    assert pool.window is not None
    assert pool.window.pads == (0, 0, 1, 1)


def test_reversed_channels_see_the_same_picture_from_the_other_side() -> None:
    net = read(float_models.mobilenet())
    turned = reverse_channels(net)
    picture = np.ascontiguousarray(IMAGE[0].transpose(1, 2, 0))
    assert turned is not None
    assert np.allclose(run_net(net, picture), run_net(turned, picture[..., ::-1].copy()), atol=1e-5)


def test_an_exported_file_is_read_like_the_model_itself(tmp_path: Path) -> None:
    model = float_models.mobilenet()
    torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 32, 32),)), tmp_path / "model.pt2")
    loaded = importer.load_model(str(tmp_path / "model.pt2"))
    for mine, theirs in zip(read(model).layers, import_model(loaded, 224, 1).layers, strict=True):
        assert mine.name == theirs.name
        if isinstance(mine, Conv | Linear) and isinstance(theirs, Conv | Linear):
            assert np.array_equal(mine.weights, theirs.weights)


class Gate(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.reduce(x.mean([2, 3], keepdim=True)))


def net_with(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Gate(), "squeeze-and-excitation"),
        (nn.SiLU(), "swish"),
        (nn.Hardswish(), "hard swish"),
        (nn.GELU(), "GELU"),
        (nn.GroupNorm(2, 4), "group norm"),
        (nn.LeakyReLU(), "leaky ReLU"),
        (nn.Hardtanh(-1, 1), "clips to -1"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), "does not directly follow a convolution"),
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), "count_include_pad"),
        (nn.ReflectionPad2d(1), "padding with zeros"),
        (nn.ConvTranspose2d(4, 4, 2), "conv_transpose2d"),
        (nn.PixelShuffle(2), "pixel_shuffle"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_layers_without_an_int8_form_are_refused_by_name(layer: nn.Module, words: str) -> None:
    model = net_with(layer)
    if isinstance(layer, nn.PixelShuffle):
        model = nn.Sequential(model[0], layer, nn.Flatten(), nn.Linear(3600, 5))
    with pytest.raises(UnsupportedLayer, match=words):
        read(model)


def test_a_model_that_ends_in_a_picture_is_refused() -> None:
    with pytest.raises(InvalidModel, match="must be \\[N, classes\\]"):
        read(nn.Sequential(nn.Conv2d(3, 4, 3)))


def test_weights_that_are_not_numbers_are_refused_by_name() -> None:
    model = float_models.mobilenet()
    with torch.no_grad():
        model.classifier[1].weight[0, 0] = float("nan")
    with pytest.raises(InvalidModel, match=r"classifier.1.weight has 1 of 160 values"):
        read(model)


def test_dynamic_shapes_are_refused(tmp_path: Path) -> None:
    model = float_models.mobilenet()
    sizes = {0: None, 2: torch.export.Dim("side", min=16, max=64), 3: None}
    program = torch.export.export(
        nn.Sequential(model.features, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (torch.zeros(1, 3, 32, 32),),
        dynamic_shapes=(sizes,),
    )
    with pytest.raises(InvalidModel, match="dynamic shape"):
        importer.read_nodes(program, 32)


def test_a_program_exported_in_training_mode_is_refused() -> None:
    program = torch.export.export(net_with(nn.BatchNorm2d(4)).train(), (torch.zeros(2, 3, 32, 32),))
    with pytest.raises(InvalidModel, match=r"call model.eval\(\)"):
        read_layers(importer.read_nodes(program, 32))


def test_something_without_eval_mode_is_refused() -> None:
    with pytest.raises(ModelNotLoadable, match="is a function, without eval mode"):
        importer.read_nodes(lambda x: x, 32)


def test_a_model_whose_size_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(ModelNotLoadable, match=r"torch\.export cannot trace the model at 16x16"):
        importer.read_nodes(float_models.vgg_like(), 16)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet", "must be package.module:callable"),
        ("no_such_module:net", "cannot be imported"),
        ("float_models:no_such_model", "cannot be imported"),
        ("float_models:seeded", r"seeded\(\) failed: TypeError"),
        ("missing.pt2", "is not a file"),
    ],
)
def test_models_that_cannot_be_loaded_say_why(model: str, words: str) -> None:
    with pytest.raises(ModelNotLoadable, match=words):
        importer.load_model(model)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.pt2").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ModelNotLoadable, match=r"is no torch\.export file"):
        importer.load_model(str(tmp_path / "broken.pt2"))


def test_missing_torch_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from imagequeue_worker.caffe2.quantize import TorchMissing

    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(TorchMissing, match=r"pip install 'imagequeue\[quantize\]'"):
        importer.load_model("float_models:resnet")
