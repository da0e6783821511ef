"""Whole nets: every native path gives the portable engine's bytes, in each way to run a net and for every blob.

Caught: a Relu fused into a convolution whose bytes others read, directly or behind a Reshape; pixels not mapped for
parts behind the first; memory of a part's outputs given to later tensors.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe2.tiny_net import bias, fill, operator, write
from imagequeue_worker.caffe2 import Net, PixelScaling, QTensor, load_net
from imagequeue_worker.caffe2.netdef import NetDef
from native.layers import NATIVE_ENGINES, needs_native
from native.random_nets import STEPS, write_random_net

pytestmark = needs_native

SIZE = 12


def pictures(count: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, channels), dtype=np.uint8)


def check_runs(net: Net, reference: Net, pixels: np.ndarray) -> None:
    """Run in the three ways that give probabilities."""
    wanted = reference.run_pixels(pixels)[reference.output_name]
    quantized = np.stack([net.pixel_table[c][pixels[..., c]] for c in range(pixels.shape[-1])], axis=-1)
    assert np.array_equal(net.run_pixels(pixels)[net.output_name], wanted)
    assert np.array_equal(net.run_quantized(quantized)[net.output_name], wanted)
    assert np.array_equal(net.run(net.float_input(pixels))[net.output_name], wanted)


def check_blobs(net: Net, reference: Net, pixels: np.ndarray) -> None:
    """Run with nothing fused."""
    wanted, got = reference.run_blobs(reference.float_input(pixels)), net.run_blobs(net.float_input(pixels))
    assert set(got) == set(wanted)
    different = []
    for name, value in wanted.items():
        other = got[name]
        if isinstance(value, QTensor):
            assert isinstance(other, QTensor)
            assert (other.scale, other.zero_point) == (value.scale, value.zero_point)
            value, other = value.data, other.data
        if not np.array_equal(other, value):
            different.append(name)
    assert different == []


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=7),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3]),
)
@settings(max_examples=60)
def test_random_nets_agree(tmp_path_factory, seed: int, steps: list[str], mixing: bool, transposed: bool, batch: int):
    folder = tmp_path_factory.getbasetemp() / "random_net"
    write_random_net(folder, seed=seed, steps=steps, size=SIZE, mixing=mixing, transposed=transposed)
    reference, pixels = load_net(folder, engine="portable"), pictures(batch, seed)
    for engine in NATIVE_ENGINES:
        net = load_net(folder, engine=engine)
        assert (net.output_name, net.classes, net.input_size) == (reference.output_name, 7, (SIZE, SIZE))
        check_runs(net, reference, pixels)
        check_blobs(net, reference, pixels)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_agrees_behind_a_convolution(tmp_path: Path, step: str):
    for seed in range(6):
        folder = write_random_net(tmp_path, seed=seed, steps=["conv", step], size=SIZE)
        reference = load_net(folder, engine="portable")
        for engine in NATIVE_ENGINES:
            check_runs(load_net(folder, engine=engine), reference, pictures(2, seed))


# One net of everything, for what need not be drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    steps = ["conv", "residual", "shuffle", "depthwise", "skip", "concat", "wide_conv", "average", "turn", "conv"]
    return write_random_net(tmp_path_factory.mktemp("net"), seed=8, steps=steps, size=SIZE)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Net:
    return load_net(folder, engine="portable")


def test_the_net_tells_pictures_apart(reference: Net):
    # Else equal answers would say nothing.
    rows = reference.run_pixels(pictures(64))[reference.output_name]
    assert len(np.unique(rows, axis=0)) > 32


@pytest.mark.parametrize("engine", NATIVE_ENGINES)
def test_a_net_alternates_between_kernels_and_portable_operators(folder: Path, engine: str):
    kernels = [step.kernel for step in load_net(folder, engine=engine).describe()]
    assert kernels.count("portable") == 3
    assert any("depthwise" in kernel for kernel in kernels)
    # What is fused into a convolution is no step of its own.
    assert any("+Int8Relu" in step.operators for step in load_net(folder, engine=engine).describe())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize("engine", NATIVE_ENGINES)
def test_batches_of_any_size_agree(folder: Path, reference: Net, engine: str, batch: int, threads: int):
    net, pixels = load_net(folder, engine=engine, threads=threads), pictures(batch, batch)
    check_runs(net, reference, pixels)
    check_blobs(net, reference, pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("engine", NATIVE_ENGINES)
def test_pixels_are_mapped_through_the_table_of_their_channel(tmp_path: Path, engine: str, channels: int):
    # No convolution would hide a channel: the fully connected layer sees the picture as it is.
    init = NetDef("constants", (fill("w", (9, SIZE * SIZE * channels), 0.01), bias("b", 9, 0.0002)))
    ops = (
        operator("Int8Quantize", "data", "q", Y_scale=0.02, Y_zero_point=114),
        operator("Int8FC", "q w b", "fc", Y_scale=0.1, Y_zero_point=100),
        operator("Int8Dequantize", "fc", "out"),
    )
    predict = NetDef("plain", ops, (), ("data", "w", "b"), ("out",))
    scaling = PixelScaling(
        tuple(0.1 + 0.2 * c for c in range(channels)), tuple(0.2 + 0.01 * c for c in range(channels))
    )
    write(tmp_path, init, predict)
    nets = [load_net(tmp_path, engine=e, scaling=scaling, input_size=(SIZE, SIZE)) for e in (engine, "portable")]
    pixels = pictures(3, channels=channels)
    check_runs(*nets, pixels)
    assert len(np.unique(nets[0].run_pixels(pixels)["out"])) > 5
