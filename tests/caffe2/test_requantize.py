"""The rounding rules: against their definition in whole numbers, and the fast form against the rule."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagequeue_worker.caffe2.requantize import (
    Q31,
    Requantizer,
    SumRule,
    average,
    float_bits,
    q31,
    rescaled_sum,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
SCALES = st.floats(2.0**-32, 1, exclude_max=True, width=32)
# What layers have: the accumulators of 0…255 outputs fit into 28 bits.
LAYER_SCALES = st.floats(2.0**-20, 1, exclude_max=True, width=32)


def defined_q31(acc: int, scale: float) -> int:
    """Q31 multiplication and shift, both rounding half away from zero, in Python's whole numbers."""
    bits = float_bits(scale)
    multiplier, shift = ((bits & 0x7FFFFF) | 0x800000) << 7, 127 + 31 - 32 - (bits >> 23)
    q = (acc * multiplier + 2**30) >> 31
    mask = 2**shift - 1
    return (q >> shift) + (((q & mask) - (q < 0)) > (mask >> 1))


@given(INT32, SCALES)
def test_q31_is_its_definition(acc: int, scale: float):
    assert int(q31(np.array([acc]), scale)[0]) == defined_q31(acc, scale)


@given(INT32, SCALES)
def test_q31_is_one_floor(acc: int, scale: float):
    nudge = Fraction(Q31(scale).nudge)
    value = acc * Fraction(scale) + Fraction(1, 2) + (nudge if acc >= 0 else -nudge)
    assert defined_q31(acc, scale) == floor(value)


@given(st.integers(-(2**31), 2**31 - 2), SCALES)
def test_q31_is_monotone(acc: int, scale: float):
    low, high = q31(np.array([acc, acc + 1]), scale)
    assert low <= high


@given(
    LAYER_SCALES,
    st.integers(0, 255),
    st.sampled_from(["none", "relu"]),
    st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=5),
    st.integers(0, 2**32),
)
@settings(max_examples=300)
def test_the_fast_form_is_the_definition(scale: float, zero_point: int, clip: str, offsets: list[int], seed: int):
    offset = np.array(offsets, np.int64)
    requantizer = Requantizer(scale, zero_point, zero_point if clip == "relu" else 0, offset, 1 << 24)
    # Around every threshold of the output, where alone a monotone form can be wrong; and anywhere.
    steps = (np.arange(-256, 257) - 0.5) / scale
    near = (np.rint(steps)[:, None] + np.arange(-3, 4)).ravel()
    random = np.random.default_rng(seed).integers(-(2**23), 2**23, 500)
    acc = np.unique(np.clip(np.concatenate([near, random, [0, -1, 1]]), -(2**23), 2**23)).astype(np.float32)
    acc = np.repeat(acc[:, None], len(offsets), axis=1)[:, None]
    out = np.empty(acc.shape, np.uint8)
    requantizer.run(acc, out, requantizer.tiled(1), np.empty(acc.shape), np.empty(acc.shape))
    assert np.array_equal(out, requantizer.by_definition(acc))
    wanted = [
        np.clip(defined_q31(int(a + offset[0]), scale) + zero_point, requantizer.minimum, 255) for a in acc[:40, 0, 0]
    ]
    assert out[:40, 0, 0].tolist() == wanted


@pytest.mark.parametrize("scale", [0.000731, 0.0031415, 0.25, 0.4999, 0.5, 0.75, 0.99999])
@pytest.mark.parametrize(("zero_point", "minimum"), [(0, 0), (126, 0), (114, 114)])
def test_the_fast_form_is_the_definition_over_the_whole_range(scale: float, zero_point: int, minimum: int):
    scale = float(np.float32(scale))
    reach = int(300 / scale)
    acc = np.arange(-reach, reach + 1, dtype=np.float32)[:, None, None]
    requantizer = Requantizer(scale, zero_point, minimum, np.zeros(1, np.int64), reach)
    assert requantizer.exact
    out = np.empty(acc.shape, np.uint8)
    requantizer.run(acc, out, requantizer.tiled(1), np.empty(acc.shape), np.empty(acc.shape))
    assert np.array_equal(out, requantizer.by_definition(acc))
    assert (np.diff(out.ravel().astype(int)) >= 0).all()


def test_scales_beyond_float64s_exactness_use_the_definition():
    requantizer = Requantizer(2.0**-31, 10, 0, np.zeros(1, np.int64), 2**31 - 1)
    assert not requantizer.exact
    acc = np.array([-(2.0**31), -1, 0, 2.0**30, 2.0**31 - 1])[:, None, None]
    out = np.empty(acc.shape, np.uint8)
    requantizer.run(acc, out, requantizer.tiled(1), np.empty(acc.shape), np.empty(acc.shape))
    assert out.ravel().tolist() == [defined_q31(int(a), 2.0**-31) + 10 for a in acc.ravel()]


def test_accumulators_beyond_32_bits_wrap_as_in_qnnpack():
    requantizer = Requantizer(0.5, 0, 0, np.zeros(1, np.int64), 2**31)
    assert requantizer.by_definition(np.array([[[2.0**32 + 7]]]))[0, 0, 0] == 4


@given(
    st.floats(2.0**-14, 255, width=32),
    st.floats(2.0**-14, 255, width=32),
    st.integers(-255, 255),
    st.integers(-255, 255),
)
def test_sums_are_within_one_of_the_real_sum(a_ratio: float, b_ratio: float, a: int, b: int):
    got = int(rescaled_sum(np.array([a]), np.array([b]), SumRule.of(a_ratio, b_ratio))[0])
    assert abs(got - (a * a_ratio + b * b_ratio)) <= 0.5 + 255 * 2 * max(a_ratio, b_ratio) / 2**21 + 1e-9


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-32, 2.0**8, exclude_max=True, width=32))
def test_an_average_rounds_to_nearest(total: int, scale: float):
    assert abs(int(average(np.array([total]), scale)[0]) - total * Fraction(scale)) <= Fraction(1, 2)
