"""What Caffe2 refuses is refused, with value, rule and remedy in the message."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import InvalidInput, InvalidOperator, QTensor, UnsupportedOperator, run_operator
from imagequeue_worker.caffe2.operators import OPERATORS

X = QTensor(np.full((1, 4, 4, 2), 7, np.uint8), 0.1, 5)
W = QTensor(np.full((2, 3, 3, 2), 9, np.uint8), 0.1, 5)
B = QTensor(np.zeros(2, np.int32), 0.01)
CONV = {"kernel": 3, "order": "NHWC", "Y_scale": 0.5, "Y_zero_point": 3}


@given(st.sampled_from([0.0, -1.0, float("nan"), float("inf"), 1e-45, 1e300]) | st.floats(max_value=0))
def test_scales_must_be_finite_and_positive(scale: float):
    with pytest.raises(InvalidInput, match="scale"):
        QTensor(X.data, scale, 0)
    with pytest.raises(InvalidOperator, match="Y_scale"):
        run_operator("Int8Conv", [X, W, B], {**CONV, "Y_scale": scale})
    with pytest.raises(InvalidOperator, match="Y_scale"):
        run_operator("Int8Quantize", [np.zeros(3, np.float32)], {"Y_scale": scale})


@pytest.mark.parametrize("zero_point", [-1, 256, 2**40])
def test_zero_points_must_be_bytes(zero_point: int):
    with pytest.raises(InvalidInput, match="0 to 255"):
        QTensor(X.data, 0.1, zero_point)
    with pytest.raises(InvalidOperator, match="0 to 255"):
        run_operator("Int8Conv", [X, W, B], {**CONV, "Y_zero_point": zero_point})


def test_a_qtensor_holds_bytes_or_int32():
    with pytest.raises(InvalidInput, match="float64"):
        QTensor(np.zeros(3), 0.1, 0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Y_scale": 0.01}, "must be in"),
        ({"Y_scale": 1e30}, "must be in"),
        ({"order": "NCHW"}, "must be NHWC"),
        ({"kernel": 2}, "weights have shape"),
        ({"kernel": 0}, "must be 1 to 4096"),
        ({"stride": 0}, "must be 1 to 4096"),
        ({"dilation": -1}, "must be 1 to 4096"),
        ({"dilation": 2}, "the kernel reaches over 5"),
        ({"pad": -1}, "must be 0 to 4096"),
        ({"pad": 2**40}, "must be 0 to 4096"),
        ({"group": 0}, "must divide"),
        ({"group": 3}, "must divide"),
        ({"group": 2}, "weights have shape"),
        ({"kernel": 3.5}, "no integer"),
        ({"pads": [1, 1]}, "must have four"),
        ({"legacy_pad": 1}, "legacy_pad"),
        ({"kernel": None}, "must be int, float"),
    ],
)
def test_a_convolution_must_fit(changes: dict[str, object], reason: str):
    with pytest.raises(InvalidOperator, match=reason):
        run_operator("Int8Conv", [X, W, B], {**CONV, **changes})


def test_a_convolution_needs_a_kernel():
    with pytest.raises(InvalidOperator, match="has no kernel"):
        run_operator("Int8Conv", [X, W, B], {"Y_scale": 0.5})


@pytest.mark.parametrize(
    ("op_type", "inputs"),
    [
        ("Int8Conv", [X, W]),
        ("Int8Conv", [X, W, W]),
        ("Int8Conv", [X, B, B]),
        ("Int8Conv", [QTensor(X.data[0], 0.1, 0), W, B]),
        ("Int8Conv", [X, W, QTensor(np.zeros(3, np.int32), 0.1)]),
        ("Int8FC", [X, W, B]),
        ("Int8Add", [X]),
        ("Int8Add", [X, X, X]),
        ("Int8Add", [X, QTensor(X.data[:, :2], 0.1, 0)]),
        ("Int8Sum", [X, np.zeros((1, 4, 4, 2), np.float32)]),
        ("Int8Relu", [np.zeros(3, np.float32)]),
        ("Int8Quantize", [X]),
        ("Int8GivenTensorFill", [X]),
        ("Int8Concat", []),
    ],
)
def test_inputs_must_have_the_right_number_kind_and_shape(op_type: str, inputs: list):
    with pytest.raises(InvalidOperator, match="must"):
        run_operator(op_type, inputs, {"kernel": 3, "Y_scale": 0.5})


@pytest.mark.parametrize(
    ("op_type", "inputs"), [("Int8ConvRelu", [X, W, B]), ("Int8AddRelu", [X, X]), ("Int8SumRelu", [X, X])]
)
def test_an_empty_output_range_is_refused(op_type: str, inputs: list):
    with pytest.raises(InvalidOperator, match=r"255…255 is empty"):
        run_operator(op_type, inputs, {**CONV, "Y_zero_point": 255})


@pytest.mark.parametrize("ratio", [2.0**-15, 2.0**8])
def test_add_needs_comparable_scales(ratio: float):
    with pytest.raises(InvalidOperator, match=r"2\^-14, 2\^8"):
        run_operator("Int8Add", [X, X], {"Y_scale": float(X.scale / ratio)})


@pytest.mark.parametrize(
    "op_type",
    [
        "Int8Relu",
        "Int8MaxPool",
        "Int8Concat",
        "Int8Reshape",
        "Int8Flatten",
        "Int8Transpose",
        "Int8Slice",
        "Int8ResizeNearest",
    ],
)
def test_moved_bytes_keep_their_meaning(op_type: str):
    args = {"kernel": 2, "shape": [1, -1], "starts": [0, 0, 0, 0], "ends": [-1, -1, -1, -1]}
    run_operator(op_type, [X], {**args, "Y_scale": X.scale, "Y_zero_point": X.zero_point})
    with pytest.raises(InvalidOperator, match="must be equal"):
        run_operator(op_type, [X], {**args, "Y_scale": 0.2, "Y_zero_point": X.zero_point})
    with pytest.raises(InvalidOperator, match="must be equal"):
        run_operator(op_type, [X], {**args, "Y_scale": X.scale, "Y_zero_point": 6})


@pytest.mark.parametrize(
    ("op_type", "args", "reason"),
    [
        ("Int8Softmax", {"Y_scale": 0.5}, "1/256"),
        ("Int8Sigmoid", {"Y_zero_point": 1}, "1/256"),
        ("Int8LeakyRelu", {"alpha": 1.5}, "between 0 and 1"),
        ("Int8LeakyRelu", {"Y_scale": 100.0, "Y_zero_point": 0}, "2\\^-8, 2\\^8"),
        ("Int8AveragePool", {"kernel": 1, "Y_scale": 0.1}, "1x1"),
        ("Int8AveragePool", {"kernel": 2, "Y_scale": 100.0}, "2\\^-8, 2\\^8"),
        ("Int8AveragePool", {"global_pooling": 1, "stride": 2, "Y_scale": 0.1}, "global_pooling"),
        ("Int8MaxPool", {"kernel": 5}, "the kernel reaches over 5"),
        ("Int8Reshape", {"shape": [-1, -1]}, "only one"),
        ("Int8Reshape", {"shape": [5, -1]}, "does not divide"),
        ("Int8Reshape", {"shape": [31]}, "must be equal"),
        ("Int8Reshape", {}, "no argument"),
        ("Int8Flatten", {"axis": 5}, "must be 0 to 4"),
        ("Int8Transpose", {"axes": [0, 1, 2, 2]}, "once"),
        ("Int8Slice", {"starts": [0, 1, 1, 0], "ends": [-1, -1, -1, -1]}, "one at a time"),
        ("Int8Slice", {"starts": [0, 3], "ends": [-1, 2]}, "slice 3 to 2"),
        ("Int8Slice", {}, "give both"),
        ("Int8ChannelShuffle", {"group": 2}, "kernel=1"),
        ("Int8ChannelShuffle", {"group": 3, "kernel": 1}, "divide"),
        ("Int8Concat", {"axis": 4}, "must be 0 to 3"),
        ("Int8ResizeNearest", {"width_scale": -1.0}, "positive"),
        ("Int8ResizeNearest", {"width_scale": 1e30}, "limit"),
    ],
)
def test_arguments_must_make_sense(op_type: str, args: dict[str, object], reason: str):
    with pytest.raises(InvalidOperator, match=reason):
        run_operator(op_type, [X], args)


@pytest.mark.parametrize("shape", [[-1], [2**40], [2, 2], [2**31, 2**31, 0, 5]])
def test_constants_must_have_the_values_their_shape_needs(shape: list[int]):
    with pytest.raises(InvalidOperator, match=r"must be|limit"):
        run_operator("Int8GivenTensorFill", [], {"shape": shape, "values": b"abc", "Y_scale": 0.1})


def test_a_bias_must_fit_into_32_bits():
    with pytest.raises(InvalidOperator, match="32 bits"):
        run_operator("Int8GivenIntTensorFill", [], {"shape": [1], "values": [2**31], "Y_scale": 0.1})


@pytest.mark.parametrize(
    ("rois", "reason"),
    [
        (np.zeros((1, 3), np.float32), "must be"),
        (np.array([[1, 0, 0, 1, 1]], np.float32), "names image 1"),
        (np.array([[0, 0, 0, 1e9, 1e9]], np.float32), "samples"),
        (np.array([[0, 0, 0, np.nan, 1]], np.float32), "not finite"),
    ],
)
def test_regions_must_lie_in_an_image(rois: np.ndarray, reason: str):
    args = {
        "order": "NHWC",
        "pooled_h": 2,
        "pooled_w": 2,
        "spatial_scale": 1.0,
        "sampling_ratio": 0,
        "Y_scale": 0.1,
    }
    with pytest.raises(InvalidOperator, match=reason):
        run_operator("Int8RoIAlign", [X, rois], args)


def test_an_unknown_operator_is_answered_with_the_known_ones():
    with pytest.raises(UnsupportedOperator) as caught:
        run_operator("Int8Deconv", [X], {})
    assert all(known in str(caught.value) for known in OPERATORS)


def test_repeated_arguments_must_agree():
    from imagequeue_worker.caffe2.arguments import Arguments
    from imagequeue_worker.caffe2.netdef import Argument

    with pytest.raises(InvalidOperator, match="given twice"):
        Arguments("Int8Conv", [Argument("kernel", i=1), Argument("kernel", i=3)])
