"""The reader of .pb files: exact for what the writer writes, one clear error for everything else."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caffe2.tiny_net import tiny_init, tiny_predict, write
from imagequeue_worker.caffe2 import Caffe2Error, Net, NetFormatError, load_net
from imagequeue_worker.caffe2.netdef import Argument, NetDef, OperatorDef, read_net
from imagequeue_worker.caffe2.netdef_writer import write_net
from imagequeue_worker.caffe2.wire import encode_bytes, encode_float, encode_int, encode_varint

NAMES = st.text(max_size=8)
FLOATS = st.floats(width=32, allow_nan=False)
INTS = st.integers(-(2**63), 2**63 - 1)
ARGUMENTS = st.builds(
    Argument,
    NAMES,
    st.none() | FLOATS,
    st.none() | INTS,
    st.none() | st.binary(max_size=20),
    st.lists(FLOATS, max_size=4).map(tuple),
    st.lists(INTS, max_size=4).map(tuple),
    st.lists(st.binary(max_size=5), max_size=3).map(tuple),
)
NAME_LISTS = st.lists(NAMES, max_size=3).map(tuple)
ARGUMENT_LISTS = st.lists(ARGUMENTS, max_size=3).map(tuple)
OPERATORS = st.builds(OperatorDef, NAMES, NAME_LISTS, NAME_LISTS, ARGUMENT_LISTS, NAMES, NAMES)
NETS = st.builds(
    NetDef, NAMES, st.lists(OPERATORS, max_size=3).map(tuple), ARGUMENT_LISTS, NAME_LISTS, NAME_LISTS, NAMES
)
TINY = [write_net(tiny_init()), write_net(tiny_predict())]


@given(NETS)
def test_what_is_written_is_read(net: NetDef):
    assert read_net(write_net(net)) == net


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes):
    with suppress(NetFormatError):
        read_net(data)


@pytest.mark.parametrize("data", TINY)
def test_a_truncated_file_is_refused_or_shorter(data: bytes):
    whole = read_net(data)
    for end in range(len(data)):
        try:
            net = read_net(data[:end])
        except NetFormatError:
            continue
        assert net != whole
        assert net.ops == whole.ops[: len(net.ops)]


@given(st.sampled_from(TINY), st.data())
@settings(max_examples=300)
def test_flipped_bits_are_read_or_refused(data: bytes, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    with suppress(NetFormatError):
        read_net(bytes(damaged))


def load_or_refuse(folder: Path) -> Net | None:
    try:
        return load_net(folder)
    except Caffe2Error:
        return None


@given(st.sampled_from(["init_net.pb", "predict_net.pb"]), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_net_loads_or_is_refused(tmp_path_factory, file: str, draw):
    folder = write(tmp_path_factory.getbasetemp() / "damaged")
    damaged = bytearray((folder / file).read_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    (folder / file).write_bytes(damaged)
    net = load_or_refuse(folder)
    if net is not None:
        result = net.run_pixels(np.zeros((1, *net.input_size, 3), np.uint8))
        assert np.isfinite(result[net.output_name]).all()


def test_packed_and_single_numbers_are_the_same():
    packed = encode_bytes(1, b"x") + encode_bytes(6, encode_varint(1) + encode_varint(300) + encode_varint(-1))
    packed += encode_bytes(5, struct.pack("<2f", 0.5, 2.0))
    net = read_net(encode_bytes(6, packed))
    assert net.args == (Argument("x", ints=(1, 300, -1), floats=(0.5, 2.0)),)


def test_unknown_fields_are_skipped():
    known = write_net(tiny_predict())
    unknown = (
        encode_int(99, 7) + encode_bytes(98, b"later") + encode_float(97, 1.0) + encode_varint(96 << 3 | 1) + bytes(8)
    )
    # Nets and tensors within arguments, however deep, are skipped without being looked into.
    nested = b""
    for _ in range(3000):
        nested = encode_bytes(8, nested)
    assert read_net(unknown + known + encode_bytes(5, nested) + unknown) == read_net(known)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x12", "ends within a number"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "does not fit"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than ten bytes"),
        (b"\x0a\x02\xff\xfe", "not UTF-8"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "field 0"),
        (b"\x10\x01", "'op' has wire type 0"),
        (encode_bytes(2, b"\x2a\x7f"), "does not fit"),
        (b"<html>not found</html>", "wire type"),
    ],
)
def test_the_error_names_place_and_reason(data: bytes, reason: str):
    with pytest.raises(NetFormatError, match=r"damaged .pb at byte \d+") as caught:
        read_net(data)
    assert reason in str(caught.value)


def test_endless_numbers_are_refused_early():
    packed = encode_bytes(1, b"x") + encode_bytes(6, bytes(3_000_000))
    with pytest.raises(NetFormatError, match="more than 2,000,000"):
        read_net(encode_bytes(6, packed))


def test_the_error_names_the_file(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "predict_net.pb").write_bytes(b"\x12\x7f")
    with pytest.raises(NetFormatError, match=r"predict_net\.pb.*byte 2"):
        load_net(folder)
