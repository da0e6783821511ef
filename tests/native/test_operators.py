"""Every native path gives the portable engine's bytes, operator by operator.

Caught: single dwords or rows of a tile left out; 16-bit sums of pairs not bounded; depthwise padding of 0, and odd rows
with the weights of even ones; the padding at the bottom left out; columns not dilated; outputs not clipped at their
zero point; sums and averages between two bytes rounded up; a maximum of nothing where a window leaves the picture;
averages in int32; a softmax that is not shifted by its maximum; 32-bit sums taken for every Int8Add.
"""

import numpy as np
import pytest
from hypothesis import given, settings

from imagequeue_worker.caffe2 import QTensor
from native.layers import FILLS, STRATEGIES, Case, differing, needs_native

pytestmark = needs_native


@pytest.mark.parametrize("kind", STRATEGIES)
def test_every_path_gives_the_portable_bytes(kind: str):
    @given(STRATEGIES[kind]())
    @settings(max_examples=150)
    def check(case: Case) -> None:
        assert differing(case) == {}

    check()


def layer(op_type: str, x: np.ndarray, w: np.ndarray, scale: float, w_zero_point: int = 128, **args: object) -> Case:
    inputs = (QTensor(x, 1.0, 3), QTensor(w, scale, w_zero_point), QTensor(np.arange(len(w), dtype=np.int32), 1.0))
    return Case(op_type, inputs, {"Y_scale": 1.0, "Y_zero_point": 7, **args})


@pytest.mark.parametrize("scale", [2.0**-31, 1e-7, 0.5])
def test_accumulators_beyond_32_bits_wrap(scale: float):
    rng = np.random.default_rng(0)
    x, w = (FILLS["ones"](rng, shape).astype(np.uint8) for shape in ((2, 34_000), (3, 34_000)))
    assert 34_000 * 252 * 255 > 2**31
    assert differing(layer("Int8FC", x, w, scale, w_zero_point=0)) == {}


@pytest.mark.parametrize("w_zero_point", [0, 128, 255])
@pytest.mark.parametrize("pair", [(0, 0), (255, 255), (0, 255), (255, 0)])
def test_pairs_of_extreme_weights_do_not_saturate(w_zero_point: int, pair: tuple[int, int]):
    # 255 * (127 + 127) and 255 * (-128 - 128) are beyond 16 bits; -255 and 255 are beyond int8, too.
    x = np.full((1, 5, 7, 36), 255, np.uint8)
    pointwise = np.tile(np.array(pair, np.uint8), (33, 1, 1, 18))
    assert differing(layer("Int8Conv", x, pointwise, 2.0**-14, w_zero_point, kernel=1)) == {}
    depthwise = np.tile(np.array([*pair, pair[0]], np.uint8), (36, 3, 1))[..., np.newaxis]
    assert differing(layer("Int8Conv", x, depthwise, 2.0**-11, w_zero_point, kernel=3, pad=1, group=36)) == {}


@pytest.mark.parametrize("kernel", [30, 31, 32, 33, 64])
def test_depthwise_windows_may_be_tall(kernel: int):
    rng = np.random.default_rng(kernel)
    x = rng.integers(0, 256, (1, 70, 5, 18), dtype=np.uint8)
    w = rng.integers(0, 256, (18, kernel, 2, 1), dtype=np.uint8)
    for stride in (1, 3):
        case = layer("Int8Conv", x, w, 1e-3, kernels=[kernel, 2], stride=stride, group=18, pads=[5, 1, 4, 0])
        assert differing(case) == {}


@pytest.mark.parametrize("op_type", ["Int8Add", "Int8AveragePool"])
def test_results_between_two_bytes_round_away_from_zero(op_type: str):
    # Halves of both signs: sums of a byte and half a byte, means of two by two.
    data = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 33), dtype=np.uint8)
    a, b = QTensor(data, 1.0, 128), QTensor(data[::-1].copy(), 0.5, 99)
    inputs = (a, b) if op_type == "Int8Add" else (a,)
    case = Case(op_type, inputs, {"kernel": 2, "stride": 1, "Y_scale": 1.0, "Y_zero_point": 120})
    assert differing(case) == {}


def test_an_average_of_a_huge_picture_does_not_overflow():
    # 3000 * 3000 * 255 is beyond int32.
    x = QTensor(np.full((1, 3000, 3000, 1), 255, np.uint8), 1.0, 3)
    assert differing(Case("Int8AveragePool", (x,), {"global_pooling": 1, "Y_scale": 1.0, "Y_zero_point": 1})) == {}
