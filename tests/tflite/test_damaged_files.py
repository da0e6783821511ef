"""A truncated, damaged or hostile file gives a Caffe2Error, and nothing else; quickly."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagequeue_worker.caffe2 import Caffe2Error, NetFormatError
from imagequeue_worker.caffe2.tflite import convert_tflite
from tflite.tiny_tflite import mobile_net, other_net

FILES = [mobile_net().file(), other_net().file()]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(Caffe2Error):
        convert_tflite(data, "any")


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_identifier_are_refused(data: bytes) -> None:
    with pytest.raises(Caffe2Error):
        convert_tflite(data[:4].ljust(4, b"\0") + b"TFL3" + data[4:], "any")


@pytest.mark.parametrize("data", FILES)
def test_a_truncated_file_is_refused(data: bytes) -> None:
    for end in range(0, len(data) - 16, 7):
        with pytest.raises(Caffe2Error):
            convert_tflite(data[:end], "cut")


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(FILES),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes_give_a_net_or_an_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(data)] = value
    with suppress(Caffe2Error):
        convert_tflite(bytes(damaged), "damaged")


WORDS = st.sampled_from([0, 1, 4, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 1 << 14), WORDS), min_size=1, max_size=3))
def test_changed_words_give_a_net_or_an_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        struct.pack_into("<I", damaged, position * 4 % (len(data) - 4), value)
    with suppress(Caffe2Error):
        convert_tflite(bytes(damaged), "damaged")


def test_a_list_that_claims_more_than_the_file_has_is_refused_before_it_is_read() -> None:
    data = bytearray(FILES[0])
    operators = data.index(struct.pack("<I", 10), 8)
    struct.pack_into("<I", data, operators, 0x3FFFFFFF)
    with pytest.raises(NetFormatError, match="1,073,741,823 values"):
        convert_tflite(bytes(data), "claims")


def test_the_error_names_byte_reason_and_remedy() -> None:
    with pytest.raises(NetFormatError, match=r"byte 4: the identifier is b'.*'; .*; fetch or convert the file again"):
        convert_tflite(b"no such thing", "text")
