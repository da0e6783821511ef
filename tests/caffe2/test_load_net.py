"""Loading and running nets: three ways in agree, batches are single runs, faults are found at load."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from caffe2.tiny_net import write
from imagequeue_worker.caffe2 import (
    InvalidInput,
    Net,
    NetFormatError,
    NetNotFound,
    PixelScaling,
    QTensor,
    UnknownEngine,
    available_engines,
    load_net,
)
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
        results = list(pool.map(lambda i: net.run_pixels(pictures[i : i + 1])["softmax"][0], list(range(9)) * 4))
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
