"""Loading and running nets: three ways in agree, batches are single runs, faults are found at load."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from caffe2.tiny_net import SIZE, bias, change, fill, operator, tiny_init, tiny_predict, write
from imagequeue_worker.caffe2 import (
    Caffe2Error,
    InvalidInput,
    InvalidNet,
    InvalidOperator,
    Net,
    NetFormatError,
    NetNotFound,
    PixelScaling,
    QTensor,
    UnknownEngine,
    UnsupportedOperator,
    available_engines,
    load_net,
)
from imagequeue_worker.caffe2.netdef import NetDef
from synthetic_net import synthetic_pictures, write_synthetic_net


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_synthetic_net(tmp_path_factory.mktemp("synthetic"), width=0.25, size=64, classes=20)


@pytest.fixture(scope="module", params=available_engines())
def net(request, folder: Path) -> Net:
    return load_net(folder, engine=request.param)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return synthetic_pictures(9, 64, seed=5)


def test_a_net_says_what_it_is(net: Net, folder: Path):
    init, predict = (folder / "init_net.pb").read_bytes(), (folder / "predict_net.pb").read_bytes()
    assert net.sha256 == sha256(init + predict).hexdigest()
    assert (net.name, net.input_size, net.classes) == ("synthetic", (64, 64), 20)
    assert (net.input_name, net.output_name) == ("data", "softmax")
    assert net.pixel_table.shape == (3, 256)
    assert net.pixel_table.dtype == np.uint8
    assert not net.pixel_table.flags.writeable


def test_a_folder_and_its_two_files_are_the_same_net(folder: Path):
    assert load_net(folder).sha256 == load_net(folder / "init_net.pb", folder / "predict_net.pb").sha256


def test_floats_pixels_and_quantized_bytes_agree(net: Net, pictures: np.ndarray):
    by_pixels = net.run_pixels(pictures)["softmax"]
    by_floats = net.run(net.float_input(pictures))["softmax"]
    quantized = np.stack([net.pixel_table[c][pictures[..., c]] for c in range(3)], axis=-1)
    by_bytes = net.run_quantized(quantized)["softmax"]
    assert by_pixels.dtype == np.float32
    assert by_pixels.shape == (9, 20)
    assert np.array_equal(by_pixels, by_floats)
    assert np.array_equal(by_pixels, by_bytes)
    # The net is alive: different pictures, different classes, not all of it in one.
    assert len(set(by_pixels.argmax(axis=1))) > 2
    assert 0.02 < np.median(by_pixels.max(axis=1)) < 0.99


def test_a_batch_is_its_single_runs(net: Net, pictures: np.ndarray):
    together = net.run_pixels(pictures)["softmax"]
    single = np.concatenate([net.run_pixels(pictures[i : i + 1])["softmax"] for i in range(len(pictures))])
    assert np.array_equal(together, single)


def test_pixels_may_be_views(net: Net, pictures: np.ndarray):
    assert np.array_equal(
        net.run_pixels(pictures[::2, ::-1])["softmax"], net.run_pixels(pictures[::2, ::-1].copy())["softmax"]
    )


def test_threads_share_a_net(net: Net, pictures: np.ndarray):
    wanted = net.run_pixels(pictures)["softmax"]
    with ThreadPoolExecutor(4) as pool:
        results = list(
            pool.map(lambda i: net.run_pixels(pictures[i : i + 1])["softmax"][0], list(range(9)) * 4)
        )
    assert np.array_equal(np.stack(results), np.concatenate([wanted] * 4))


def test_inputs_are_not_changed(net: Net, pictures: np.ndarray):
    pixels, inputs = pictures.copy(), net.float_input(pictures)
    copy = {name: value.copy() for name, value in inputs.items()}
    net.run_pixels(pixels)
    net.run(inputs)
    assert np.array_equal(pixels, pictures)
    assert np.array_equal(inputs["data"], copy["data"])


def test_every_blob_can_be_seen(net: Net, pictures: np.ndarray):
    blobs = net.run_blobs(net.float_input(pictures[:2]))
    assert np.array_equal(blobs["softmax"], net.run_pixels(pictures[:2])["softmax"])
    quantized = blobs["3"]
    assert isinstance(quantized, QTensor)
    assert np.array_equal(quantized.data[..., 0], net.pixel_table[0][pictures[:2, ..., 0]])
    assert len(blobs) > 100


def test_the_same_seed_makes_the_same_net(folder: Path, tmp_path: Path):
    again = write_synthetic_net(tmp_path / "again", width=0.25, size=64, classes=20)
    other = write_synthetic_net(tmp_path / "other", width=0.25, size=64, classes=20, seed=1)
    assert load_net(again).sha256 == load_net(folder).sha256 != load_net(other).sha256


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p: p.astype(np.float32),
        lambda p: p[0],
        lambda p: p[:, :32],
        lambda p: p[..., :2],
        lambda p: p[:0],
        lambda p: p.transpose(0, 3, 1, 2),
    ],
)
def test_wrong_pictures_are_refused(net: Net, pictures: np.ndarray, wrong: Callable):
    for run in (net.run_pixels, net.run_quantized, net.float_input):
        with pytest.raises(InvalidInput, match="must be uint8"):
            run(wrong(pictures))


def test_wrong_inputs_are_refused(net: Net, pictures: np.ndarray):
    data = net.float_input(pictures)["data"]
    with pytest.raises(InvalidInput, match="'data'"):
        net.run({"image": data})
    for wrong in (data.astype(np.float64), data[0], data[:, :, :32], data[:0]):
        with pytest.raises(InvalidInput, match="must be float32"):
            net.run({"data": wrong})


def test_other_scalings_make_other_tables(folder: Path):
    scaling = PixelScaling(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    net = load_net(folder, scaling=scaling)
    middle = net.pixel_table[0][127:129]
    assert np.abs(middle.astype(int) - 114).max() <= 1
    with pytest.raises(InvalidInput, match="std positive"):
        PixelScaling(mean=(0.5,), std=(0.0,))


# Engines


def test_engines_are_listed_and_can_be_forced(folder: Path, monkeypatch):
    for engine in available_engines():
        assert load_net(folder, engine=engine).engine == engine
        monkeypatch.setenv("IMAGEQUEUE_ENGINE", engine)
        assert load_net(folder).engine == engine
    monkeypatch.delenv("IMAGEQUEUE_ENGINE")
    assert load_net(folder).engine == available_engines()[0]


def test_an_unknown_engine_is_answered_with_the_available_ones(folder: Path, monkeypatch):
    with pytest.raises(UnknownEngine, match="portable"):
        load_net(folder, engine="warp")
    monkeypatch.setenv("IMAGEQUEUE_ENGINE", "warp")
    with pytest.raises(UnknownEngine, match="portable"):
        load_net(folder)
    assert load_net(folder, engine="portable").engine == "portable"


# Files


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(NetNotFound, match="init_net"):
        load_net(tmp_path / "nowhere")
    write(tmp_path)
    (tmp_path / "predict_net.pb").unlink()
    with pytest.raises(NetNotFound, match="predict_net"):
        load_net(tmp_path)


def test_an_empty_file_is_no_net(tmp_path: Path):
    write(tmp_path)
    (tmp_path / "init_net.pb").write_bytes(b"")
    with pytest.raises(NetFormatError, match="no operators"):
        load_net(tmp_path)


# Graphs


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
        return change(
            replace(net, ops=(*net.ops[:5], reshape, *net.ops[5:])), "fc", inputs=("flat", "w2", "b2")
        )

    plain = load(tmp_path / "plain").run_pixels(pixels)["softmax"]
    for shape in ([0, -1], [-1, 4]):
        assert np.array_equal(
            load(tmp_path / "apart", predict=reshaped(shape)).run_pixels(pixels)["softmax"], plain
        )
    # A fixed first dimension works for one image and fails for three, as in Caffe2.
    fixed = load(tmp_path / "fixed", predict=reshaped([1, -1]))
    assert np.array_equal(fixed.run_pixels(pixels[:1])["softmax"], plain[:1])
    with pytest.raises(InvalidNet, match="batches of 3"):
        fixed.run_pixels(pixels)


@pytest.mark.parametrize(
    "args",
    [
        {"pad": 4096},
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
