"""What Caffe2 has not, or computes differently, is refused in one sentence that names it."""

from __future__ import annotations

import numpy as np
import pytest

from imagequeue_worker.caffe2 import InvalidNet, InvalidOperator, NetFormatError, UnsupportedOperator
from imagequeue_worker.caffe2.tflite import convert_tflite
from imagequeue_worker.caffe2.tflite.convert import CONVERTERS
from tflite.flatbuffer_writer import Scalar, Vector, write
from tflite.tiny_tflite import (
    AVERAGE_POOL_2D,
    CUSTOM,
    FLOAT32,
    FUSED_RELU6,
    FUSED_RELU_N1,
    FUSED_TANH,
    HARD_SWISH,
    INT8,
    NONE,
    SAME,
    SIX,
    TinyNet,
    byte,
    number,
    picture,
)


def classifier(tiny: TinyNet, x: int, classes: int = 4, scale: float = SIX) -> TinyNet:
    """The rest of a net whose layer under test wrote x."""
    tiny.softmax(tiny.fully_connected(tiny.mean(x, (1, tiny.shapes[x][3]), scale), scale, classes))
    return tiny


def one_conv(**options: object) -> TinyNet:
    tiny = TinyNet()
    return classifier(tiny, tiny.conv(picture(tiny), 1 / 128, 4, (1, 10, 10, 4), 3, **options))  # type: ignore[arg-type]


def refused(tiny: TinyNet, kind: type[Exception], *words: str) -> None:
    with pytest.raises(kind) as caught:
        convert_tflite(tiny.file(), "tiny")
    assert type(caught.value) is kind
    for word in words:
        assert word in str(caught.value)


def test_the_net_that_the_others_spoil_is_sound() -> None:
    assert convert_tflite(one_conv().file(), "tiny").classes == 4


@pytest.mark.parametrize(("code", "custom", "name"), [(HARD_SWISH, "", "HARD_SWISH"), (CUSTOM, "My_Op", "My_Op")])
def test_an_unknown_operator_is_named_beside_the_known_ones(code: int, custom: str, name: str) -> None:
    tiny = one_conv()
    tiny.operator(code, [3], tiny.tensor("y", (1, 10, 10, 4), SIX), custom=custom)
    refused(tiny, UnsupportedOperator, name, "operator 4 of the TFLite net", ", ".join(sorted(CONVERTERS)))


def test_an_operator_newer_than_we_know_is_named_by_its_number() -> None:
    tiny = one_conv()
    tiny.operator(3000, [3], tiny.tensor("y", (1, 10, 10, 4), SIX))
    refused(tiny, UnsupportedOperator, "operator 3000")


def test_per_channel_weights_are_refused() -> None:
    tiny = one_conv()
    tiny.tensors[1][4] = {2: Vector("f", [0.1] * 4), 3: Vector("q", [0] * 4), 6: number(0)}
    tiny.tensors[1][1] = byte(INT8)
    refused(tiny, InvalidNet, "'conv_0/weights', INT8", "4 scales, one per channel", "imagequeue-worker quantize")


def test_per_channel_weights_of_uint8_are_refused_too() -> None:
    tiny = one_conv()
    tiny.tensors[1][4] = {2: Vector("f", [0.1] * 4), 3: Vector("q", [0] * 4)}
    refused(tiny, InvalidNet, "4 scales")


@pytest.mark.parametrize(("kind", "name"), [(INT8, "INT8"), (FLOAT32, "FLOAT32"), (99, "type 99")])
@pytest.mark.parametrize("tensor", [0, 3])
def test_other_types_are_refused(kind: int, name: str, tensor: int) -> None:
    tiny = one_conv()
    tiny.tensors[tensor][1] = byte(kind)
    refused(tiny, InvalidNet, name, "UINT8 alone")


def test_a_relu6_whose_cap_is_no_saturation_is_refused() -> None:
    refused(one_conv(activation=FUSED_RELU6, ys=7 / 255), InvalidOperator, "caps at 6, byte 219", "range 0 to 6")


def test_a_relu6_below_its_cap_is_converted() -> None:
    tiny = TinyNet()
    x = tiny.conv(picture(tiny), 1 / 128, 4, (1, 10, 10, 4), 3, activation=FUSED_RELU6, ys=4 / 255)
    tiny.softmax(tiny.mean(x, (1, 4), 4 / 255))
    assert convert_tflite(tiny.file(), "tiny").layers[1].operator == "Int8ConvRelu"


@pytest.mark.parametrize(
    ("activation", "name"), [(FUSED_RELU_N1, "RELU_N1_TO_1"), (FUSED_TANH, "TANH"), (77, "activation 77")]
)
def test_other_activations_are_refused(activation: int, name: str) -> None:
    refused(one_conv(activation=activation), InvalidOperator, name, "RELU6 are known")


def test_a_requantization_scale_of_one_or_more_is_refused_as_by_caffe2() -> None:
    refused(one_conv(activation=NONE, ws=4.0), InvalidOperator, "operator 0 of the TFLite net", "[2^-32, 1)")


def test_a_bias_in_other_units_is_refused() -> None:
    tiny = one_conv()
    tiny.tensors[2][4] = {2: Vector("f", [0.5]), 3: Vector("q", [0])}
    refused(tiny, InvalidOperator, "bias", "scale 0.5")


def test_a_bias_of_another_length_is_refused() -> None:
    tiny = one_conv()
    tiny.buffers[2][0] = bytes(4 * 1000)
    tiny.tensors[2][0] = Vector("i", [1000])
    refused(tiny, InvalidOperator, "bias", "4 channels")


def test_more_channels_than_any_net_has_are_refused() -> None:
    tiny = TinyNet()
    count = (1 << 16) + 1
    x = tiny.conv(picture(tiny), 1 / 128, count, (1, 10, 10, count), 1)
    refused(classifier(tiny, x), InvalidOperator, "65,537 channels")


def test_an_average_over_padding_is_refused() -> None:
    tiny = TinyNet()
    x = tiny.conv(picture(tiny), 1 / 128, 4, (1, 10, 10, 4), 3)
    refused(
        classifier(tiny, tiny.pool(AVERAGE_POOL_2D, x, 3, (1, 10, 10, 4), padding=SAME)), InvalidOperator, "padding"
    )


def test_a_pool_that_changes_the_scale_of_a_maximum_is_refused() -> None:
    tiny = TinyNet()
    x = tiny.conv(picture(tiny), 1 / 128, 4, (1, 10, 10, 4), 3)
    refused(classifier(tiny, tiny.pool(17, x, 2, (1, 9, 9, 4), scale=0.1)), InvalidOperator, "Int8MaxPool")


def test_a_mean_over_channels_is_refused() -> None:
    tiny = one_conv()
    tiny.buffers[3][0] = np.array([2, 3], np.int32).tobytes()
    refused(tiny, InvalidOperator, "MEAN", "[2, 3]", "height and width")


def test_another_beta_is_refused() -> None:
    tiny = one_conv()
    tiny.operators[-1][4] = {0: Scalar("f", 2.0)}
    refused(tiny, InvalidOperator, "beta 2.0")


def test_a_softmax_with_another_scale_is_refused() -> None:
    tiny = one_conv()
    tiny.tensors[-1][4] = {2: Vector("f", [0.005]), 3: Vector("q", [0])}
    refused(tiny, InvalidOperator, "SOFTMAX", "1/256")


def test_a_net_that_ends_without_probabilities_is_refused() -> None:
    tiny = one_conv()
    tiny.operators.pop()
    tiny.outputs = [len(tiny.tensors) - 2]
    refused(tiny, InvalidNet, "FULLY_CONNECTED", "SOFTMAX")


@pytest.mark.parametrize(("inputs", "outputs", "word"), [([0, 3], None, "2 inputs"), ([0], [3, 4], "2 outputs")])
def test_several_inputs_or_outputs_are_refused(inputs: list[int], outputs: list[int] | None, word: str) -> None:
    tiny = one_conv()
    tiny.inputs, tiny.outputs = inputs, outputs or tiny.outputs
    refused(tiny, InvalidNet, word)


def test_a_batch_of_pictures_is_refused() -> None:
    tiny = one_conv()
    tiny.tensors[0][0] = Vector("i", [2, 10, 10, 3])
    refused(tiny, InvalidNet, "batch 1")


def test_a_shape_that_caffe2_would_not_give_is_refused() -> None:
    tiny = one_conv()
    tiny.tensors[3][0] = Vector("i", [1, 9, 10, 4])
    refused(tiny, InvalidNet, "[1, 10, 10, 4]", "[1, 9, 10, 4]")


def test_weights_shorter_than_their_shape_are_refused() -> None:
    tiny = one_conv()
    tiny.buffers[1][0] = bytes(107)
    refused(tiny, InvalidOperator, "107 bytes", "108")


def test_options_of_another_operator_are_refused() -> None:
    tiny = one_conv()
    tiny.operators[0][3] = Scalar("B", 2)
    refused(tiny, InvalidOperator, "options of type 2")


@pytest.mark.parametrize("scale", [1e-44, 1.2e-38, 3e38, float("inf"), float("nan"), -1.0, 0.0])
@pytest.mark.parametrize("tensor", [0, 1, 3])
def test_scales_beyond_reason_are_refused(tensor: int, scale: float) -> None:
    tiny = one_conv()
    tiny.tensors[tensor][4] = {2: Vector("f", [scale]), 3: Vector("q", [0])}
    with np.errstate(all="raise"), pytest.raises((InvalidNet, InvalidOperator)):
        convert_tflite(tiny.file(), "tiny")


def test_another_schema_or_format_is_refused() -> None:
    with pytest.raises(NetFormatError, match="version 4"):
        convert_tflite(write(one_conv().model() | {0: Scalar("I", 4)}), "tiny")
    with pytest.raises(NetFormatError, match="TFL3"):
        convert_tflite(write(one_conv().model(), b"TFL2"), "tiny")


def test_constants_that_share_a_buffer_cost_no_more_than_a_net_may() -> None:
    tiny = TinyNet()
    channels, x = 4096, picture(tiny, size=1)
    x = tiny.conv(x, 1 / 128, channels, (1, 1, 1, channels), 1)
    w, b = tiny.parameters("shared", (channels, 1, 1, channels), channels, 0.004, SIX)
    options = tiny.operators[0][4]
    for _ in range(40):
        x = tiny.operator(3, [x, w, b], tiny.tensor("y", (1, 1, 1, channels), SIX), 1, options)
    tiny.softmax(x)
    refused(tiny, InvalidNet, "constants have more than 134,217,728 bytes")
