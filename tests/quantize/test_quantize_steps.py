"""Each step of the quantizer alone: ranges, rounding, bias, integers, patches."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import PixelScaling
from imagequeue_worker.caffe2.geometry import Window
from imagequeue_worker.caffe2.quantize.bias import corrected_bias
from imagequeue_worker.caffe2.quantize.integers import integer_constants, wide_enough
from imagequeue_worker.caffe2.quantize.patches import grouped, grouped_weights, output_size, padded, windows
from imagequeue_worker.caffe2.quantize.ranges import (
    Quantization,
    activation_quantization,
    input_quantization,
    logit_quantization,
    quantization_of,
    weight_quantization,
)
from imagequeue_worker.caffe2.quantize.rounding import round_with_feedback, second_moments

FLOATS = st.floats(-1e6, 1e6)


# --- ranges -----------------------------------------------------------------------------------------------------------


@given(FLOATS, FLOATS)
def test_zero_is_exact_and_the_scale_is_a_float32(a: float, b: float) -> None:
    q = quantization_of(min(a, b), max(a, b))
    assert 0 <= q.zero_point <= 255
    assert q.scale == float(np.float32(q.scale)) > 0
    assert q.steps(np.array(0.0)) == q.zero_point


def test_the_input_of_efficientnet_lite_is_the_pixel_itself() -> None:
    scaling = PixelScaling((127 / 255,) * 3, (128 / 255,) * 3)
    q = input_quantization(scaling)
    assert q == Quantization(1 / 128, 127)
    assert np.array_equal(scaling.table(q.scale, q.zero_point), np.tile(np.arange(256), (3, 1)))


def test_other_inputs_cover_every_pixel_of_every_channel() -> None:
    scaling = PixelScaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    q = input_quantization(scaling)
    extremes = scaling.apply(np.array([[0] * 3, [255] * 3], np.uint8))
    assert q.low == pytest.approx(extremes.min(), abs=q.scale)
    assert q.high == pytest.approx(extremes.max(), abs=q.scale)


def test_relu6_saturates_at_six_and_below_where_less_is_seen() -> None:
    full = np.linspace(0, 6, 1000)
    assert activation_quantization(full, 0.0, 6.0, "relu6").high == pytest.approx(6, rel=1e-6)
    q = activation_quantization(full / 2, 0.0, 3.0, "relu6")
    assert q.zero_point == 0
    assert q.high == pytest.approx(3, rel=1e-6)


def test_an_outlier_is_cut_off_where_that_lessens_the_squared_error() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100_000)
    values[0] = 20.0
    q = weight_quantization(values)
    assert q.high < 19
    assert q.squared_error(values) < quantization_of(values.min(), values.max()).squared_error(values)


def test_the_range_sees_all_channels_of_a_large_tensor() -> None:
    # A plain stride of 12 would see channels 0, 12, 24 ... only.
    values = np.zeros((16384, 96))
    values[:, 95] = np.random.default_rng(0).uniform(0, 5, 16384)
    assert activation_quantization(values, 0.0, 5.0, "relu").high == pytest.approx(5, rel=0.05)


def test_logits_keep_sixteen_below_the_largest() -> None:
    q = logit_quantization(-40.0, 20.0)
    assert q.high == pytest.approx(21, abs=q.scale)
    assert q.low == pytest.approx(0, abs=q.scale)  # 20 - 16, widened to include 0
    assert logit_quantization(-4.0, 8.0).low == pytest.approx(-4, abs=0.05)


# --- rounding ---------------------------------------------------------------------------------------------------------


def test_second_moments_are_exact_integers() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (1000, 3, 9)).astype(np.uint8)
    exact = patches.astype(np.int64).transpose(1, 0, 2) - 255
    assert np.array_equal(second_moments(patches, 255), exact.transpose(0, 2, 1) @ exact)


def test_without_correlation_feedback_is_rounding_to_nearest() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 5, 70))
    q = weight_quantization(weights)
    moments = np.stack([np.diag(np.arange(1.0, 71))] * 2)
    assert np.array_equal(round_with_feedback(weights, moments, q), q.steps(weights))


@pytest.mark.parametrize("depth", [9, 64, 65, 150])
def test_feedback_lessens_the_error_of_the_outputs(depth: int) -> None:
    rng = np.random.default_rng(depth)
    mixed = rng.normal(size=(3000, 12)) @ rng.normal(size=(12, depth)) + rng.normal(size=(3000, depth))
    patches = np.clip(np.rint(mixed * 12 + 128), 0, 255).astype(np.uint8).reshape(3000, 1, depth)
    weights = rng.normal(size=(1, 16, depth))
    q = quantization_of(weights.min(), weights.max())

    def error(steps: np.ndarray) -> float:
        wrong = (steps.astype(float) - q.zero_point) * q.scale - weights
        return float(np.square((patches[:, 0].astype(float) - 128) @ wrong[0].T).mean())

    fed_back = round_with_feedback(weights, second_moments(patches, 128), q)
    assert error(fed_back) < 0.8 * error(q.steps(weights))


def test_groups_are_rounded_each_by_its_own_inputs() -> None:
    rng = np.random.default_rng(1)
    patches = rng.integers(0, 256, (500, 4, 9)).astype(np.uint8)
    weights = rng.normal(size=(4, 2, 9))
    q = weight_quantization(weights)
    together = round_with_feedback(weights, second_moments(patches, 3), q)
    for group in range(4):
        one = slice(group, group + 1)
        assert np.array_equal(together[one], round_with_feedback(weights[one], second_moments(patches[:, one], 3), q))


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weights = np.random.default_rng(0).normal(size=(1, 3, 9))
    q = weight_quantization(weights)
    dead = round_with_feedback(weights, second_moments(np.full((50, 1, 9), 7, np.uint8), 7), q)
    assert np.array_equal(dead, q.steps(weights))


# --- bias -------------------------------------------------------------------------------------------------------------


def test_a_shifted_mean_is_corrected_exactly_without_a_clip() -> None:
    rng = np.random.default_rng(0)
    student = rng.normal(size=(2000, 4))
    bias = corrected_bias(student + np.array([1, 2, 3, -4]), student, np.zeros(4), "none")
    assert np.allclose(bias, [1, 2, 3, -4])


@pytest.mark.parametrize("clip", ["relu", "relu6"])
def test_behind_a_clip_the_means_of_the_outputs_become_equal(clip: str) -> None:
    rng = np.random.default_rng(0)
    student = rng.normal(2, 3, size=(5000, 3))
    cap = 6.0 if clip == "relu6" else np.inf
    teacher = np.clip(student + 0.5, 0, cap)
    bias = corrected_bias(teacher, student, np.zeros(3), clip)
    assert np.allclose(bias, 0.5, atol=0.02)


def test_a_channel_that_is_never_alive_keeps_its_bias() -> None:
    student = np.full((100, 1), -5.0)
    assert corrected_bias(np.zeros((100, 1)), student, np.zeros(1), "relu") == [0.0]


# --- integers ---------------------------------------------------------------------------------------------------------


@given(st.floats(1e-5, 10), st.floats(1e-5, 10), st.floats(1e-5, 10))
def test_the_requantization_scale_is_below_one(xs: float, ws: float, ys: float) -> None:
    x, w, y = (Quantization(float(np.float32(scale)), 3) for scale in (xs, ws, ys))
    wide = wide_enough(y, x, w)
    product = np.float32(x.scale) * np.float32(w.scale)
    assert product / np.float32(wide.scale) < 1
    if product / np.float32(y.scale) < 1:
        assert wide == y
    else:
        assert wide.scale < float(product) * 1.000001  # just enough


def test_the_bias_counts_steps_of_the_product_of_the_scales() -> None:
    x, w = Quantization(0.5, 0), Quantization(0.25, 128)
    weights, bias = integer_constants(np.zeros((2, 3), np.uint8), w, np.array([1.0, -0.31]), x)
    assert bias.data.tolist() == [8, -2]
    assert (bias.scale, bias.zero_point, weights.zero_point) == (0.125, 0, 128)


# --- patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [1, 2, 4])
def test_patches_times_weights_are_the_convolution(group: int) -> None:
    rng = np.random.default_rng(0)
    picture, weights = rng.normal(size=(9, 7, 4)), rng.normal(size=(8, 3, 2, 4 // group))
    window = Window((3, 2), (2, 1), (1, 0, 2, 1), (1, 2))
    height, width = output_size(window, 9, 7)
    view = windows(padded(picture, window, 0), window)
    assert view.shape == (height, width, 3, 2, 4)
    rows = grouped(view.reshape(-1, 3, 2, 4), group)
    got = np.einsum("ngk,gmk->ngm", rows, grouped_weights(weights, group)).reshape(height, width, 8)
    wide = np.pad(picture, ((1, 2), (0, 1), (0, 0)))
    for m in range(8):
        part = slice(m // (8 // group) * (4 // group), (m // (8 // group) + 1) * (4 // group))
        patch = wide[2:5, 1:4:2, part]
        assert got[1, 1, m] == pytest.approx(float((patch * weights[m]).sum()))


# --- imports ----------------------------------------------------------------------------------------------------------


def test_importing_the_quantizer_loads_no_torch() -> None:
    code = (
        "import imagequeue_worker.caffe2.quantize.importer, imagequeue_worker.commands.quantize, "
        "imagequeue_worker.making.default_net, imagequeue_worker.making.make_net, sys; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
