"""Requantization: the form that was proved for a layer is the rule, for every accumulator that can occur.

Caught: forms that were searched and not proved; the second rounding left out; one constant for both signs; results
beyond 16 bits; double precision where it is not exact.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caffe2.golden import TEST_DATA
from imagequeue_worker.caffe2 import QTensor, load_net
from imagequeue_worker.caffe2.native import Form, Program, requantization_differences
from imagequeue_worker.caffe2.requantize import q31
from native.layers import NATIVE_ENGINES, PATHS, Case, differing, needs_native

pytestmark = needs_native

ZOO_NET = TEST_DATA and TEST_DATA / "models" / "mobilenet_v2_1.0_224_quant"
# One float, kept clear of 0 and 1: what real layers have.
LAYER_SCALES = st.floats(-14, -0.01).map(lambda exponent: float(np.float32(2.0**exponent)))


# Every accumulator


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int, int, int, int]]:
    """What loading nets proves from here on: scale, zero point, minimum, lowest and highest accumulator."""
    found: list[tuple[float, int, int, int, int]] = []

    def recorded(method):
        def append(self, shape, rule, x, y):
            found.append((rule.scale, rule.zero_point, rule.minimum, rule.lowest, rule.highest))
            return method(self, shape, rule, x, y)

        return append

    for name in ("convolution", "depthwise"):
        monkeypatch.setattr(Program, name, recorded(getattr(Program, name)))
    return found


def check_all(rules: list[tuple[float, int, int, int, int]]) -> set[Form]:
    results = {rule: requantization_differences(*rule) for rule in rules}
    assert {rule: count for rule, (_, count) in results.items() if count} == {}
    return {form for form, _ in results.values()}


def test_no_accumulator_of_the_synthetic_net_is_wrong(net_folder: Path, rules):
    load_net(net_folder, engine=NATIVE_ENGINES[0])
    assert len(rules) == 53
    assert check_all(rules) >= {Form.ONE_FMA, Form.SIGNED}


@pytest.mark.skipif(TEST_DATA is None, reason="IMAGEQUEUE_TEST_DATA names no folder with models/")
def test_no_accumulator_of_the_zoos_net_is_wrong(rules):
    load_net(ZOO_NET, engine=NATIVE_ENGINES[0])
    assert len(rules) == 54
    # Its fully connected layer is beyond both vector forms.
    assert check_all(rules) == {Form.ONE_FMA, Form.SIGNED, Form.Q31}


@given(LAYER_SCALES, st.integers(0, 255), st.booleans(), st.integers(1, 300_000), st.integers(1, 300_000))
@settings(max_examples=150)
def test_no_accumulator_of_a_random_layer_is_wrong(scale: float, zero_point: int, relu: bool, below: int, above: int):
    _, wrong = requantization_differences(scale, zero_point, zero_point if relu else 0, -below, above)
    assert wrong == 0


@pytest.mark.parametrize("seed", range(30))
def test_no_accumulator_is_wrong_where_proofs_are_hard(seed: int):
    # Small scales: of the constants that should do, half do not.
    scale = float(np.float32(10 ** np.random.default_rng(seed).uniform(-4, -2)))
    reach = int(min(160 / scale, 2**22 - 2))
    assert requantization_differences(scale, 128, 0, -reach, reach)[1] == 0
    assert requantization_differences(scale, 100, 100, -reach, reach)[1] == 0


@pytest.mark.parametrize("scale", [2.0**-32, 2.0**-24, 0.25, 0.5, 0.75, 0.625, 1 - 2.0**-24, 0.5 - 2.0**-26])
@pytest.mark.parametrize(("zero_point", "minimum"), [(0, 0), (255, 0), (255, 255), (128, 0), (128, 128)])
def test_no_accumulator_of_an_edge_scale_is_wrong(scale: float, zero_point: int, minimum: int):
    assert requantization_differences(scale, zero_point, minimum, -100_000, 100_000)[1] == 0


def test_one_sided_ranges_are_proved():
    for lowest, highest in ((5, 9000), (-9000, -5), (0, 0), (-1, -1), (7, 7)):
        for zero_point, minimum in ((0, 0), (90, 0), (90, 90)):
            assert requantization_differences(0.0173, zero_point, minimum, lowest, highest)[1] == 0


def lone_accumulator(acc: int, scale: float, zero_point: int) -> Case:
    """A layer with one input, of 0, and the accumulator as its bias."""
    zero, w = (QTensor(np.zeros((1, 1), np.uint8), s) for s in (1.0, scale))
    inputs = (zero, w, QTensor(np.array([acc], np.int32), 1.0))
    return Case("Int8FC", inputs, {"Y_scale": 1.0, "Y_zero_point": zero_point})


@given(st.integers(-(2**31), 2**31 - 1), st.floats(2.0**-32, 1, exclude_max=True, width=32), st.integers(0, 255))
# One unit of 2^-53 below a border: sums in double precision round up to it.
@example(494_138_509, 9_114_043 * 2.0**-53, 100)
@example(869_471_636, 15_539_091 * 2.0**-53, 100)
def test_the_librarys_rule_is_the_portable_one(acc: int, scale: float, zero_point: int):
    case = lone_accumulator(acc, scale, zero_point)
    assert case.run("portable")[0, 0] == np.clip(q31(np.array([acc]), scale) + zero_point, 0, 255)[0]
    assert differing(case) == {}


# Every form, in every kernel


def forced(kind: str, form: Form) -> Case:
    """A layer whose proof ends in a form: clipped at its zero point; of both signs; with huge accumulators."""
    rng = np.random.default_rng(int(form))
    depth = {"matrix": 48, "windows": 4, "depthwise": 1}[kind]
    size = 1 if kind == "matrix" else 3
    w = rng.integers(0, 256, (48, size, size, depth), dtype=np.uint8)
    x = QTensor(rng.integers(0, 256, (2, 6, 7, 48 if kind == "depthwise" else depth), dtype=np.uint8), 1.0, 128)
    bias = rng.integers(-300, 300, 48)
    if form is Form.Q31:
        bias[::2] += rng.choice([-(2**25), 2**25], 24)
    scale = 1 / (255 * math.sqrt(w[0].size))
    args = {"kernel": size, "pad": size // 2, "group": 48 if kind == "depthwise" else 1}
    inputs = (x, QTensor(w, scale, 128), QTensor(bias.astype(np.int32), 1.0))
    op_type = "Int8ConvRelu" if form is Form.ONE_FMA else "Int8Conv"
    return Case(op_type, inputs, {**args, "Y_scale": 1.0, "Y_zero_point": 100})


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("kind", ["matrix", "windows", "depthwise"])
def test_every_form_is_reached_and_right_in_every_kernel(kind: str, form: Form, monkeypatch: pytest.MonkeyPatch):
    reached = []

    def recorded(method):
        return lambda *arguments: reached.append(method(*arguments)) or reached[-1]

    for name in ("convolution", "depthwise"):
        monkeypatch.setattr(Program, name, recorded(getattr(Program, name)))
    assert differing(forced(kind, form)) == {}
    assert reached == [form] * len(PATHS)


@pytest.mark.parametrize("zero_point", [0, 100])
@pytest.mark.parametrize("kind", ["matrix", "windows", "depthwise"])
def test_the_plain_form_of_one_fma_is_right(kind: str, zero_point: int):
    # With zero point 0, saturation clips; else an addition and a maximum do.
    case = forced(kind, Form.ONE_FMA)
    assert differing(Case(case.op_type, case.inputs, {**case.args, "Y_zero_point": zero_point})) == {}
