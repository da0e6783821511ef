"""Reads a NetDef (caffe2.proto, protobuf 2) from the bytes of a .pb file.

Only the fields that an Int8 net needs are kept; the others are skipped. Messages nest three deep (NetDef,
OperatorDef, Argument) and no deeper: nets and tensors within arguments are skipped too, so that no input can
make this recurse.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .wire import BYTES, FIXED32, VARINT, Reader, expect


@dataclass(frozen=True, slots=True)
class Argument:
    """One named argument. Caffe2 tells the types apart by which field is set."""

    name: str
    f: float | None = None
    i: int | None = None
    s: bytes | None = None
    floats: tuple[float, ...] = ()
    ints: tuple[int, ...] = ()
    strings: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class OperatorDef:
    """One operator: type, blobs it reads and writes, arguments. `engine` is a hint, ignored."""

    type: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    args: tuple[Argument, ...] = ()
    name: str = ""
    engine: str = ""


@dataclass(frozen=True, slots=True)
class NetDef:
    """A net: operators in the order in which they run."""

    name: str = ""
    ops: tuple[OperatorDef, ...] = ()
    args: tuple[Argument, ...] = ()
    external_inputs: tuple[str, ...] = ()
    external_outputs: tuple[str, ...] = ()
    type: str = ""


def read_net(data: bytes) -> NetDef:
    """Read a NetDef.

    Raises:
        NetFormatError: The bytes are truncated, damaged or no NetDef; the message names the byte and the
            reason.
    """
    reader = Reader(data)
    texts: dict[int, list[str]] = {1: [], 3: [], 7: [], 8: []}
    ops: list[OperatorDef] = []
    args: list[Argument] = []
    for field, wire in _fields(reader):
        if field in texts:
            expect(reader, _NET_FIELDS[field], wire, BYTES)
            texts[field].append(reader.string())
        elif field == 2:
            expect(reader, "op", wire, BYTES)
            ops.append(_read_operator(reader.message()))
        elif field == 6:
            expect(reader, "arg", wire, BYTES)
            args.append(_read_argument(reader.message()))
        else:
            reader.skip(wire)
    return NetDef(_last(texts[1]), tuple(ops), tuple(args), tuple(texts[7]), tuple(texts[8]), _last(texts[3]))


_NET_FIELDS = {1: "name", 3: "type", 7: "external_input", 8: "external_output"}
_INTS_KEY = 6 << 3 | VARINT
_OPERATOR_FIELDS = {1: "input", 2: "output", 3: "name", 4: "type", 7: "engine"}


def _fields(reader: Reader) -> Iterator[tuple[int, int]]:
    while reader.more():
        yield reader.tag()


def _last(values: list[str]) -> str:
    # protobuf: of a field that is not repeated, the last one counts.
    return values[-1] if values else ""


def _read_operator(reader: Reader) -> OperatorDef:
    texts: dict[int, list[str]] = {field: [] for field in _OPERATOR_FIELDS}
    args: list[Argument] = []
    for field, wire in _fields(reader):
        if field in texts:
            expect(reader, _OPERATOR_FIELDS[field], wire, BYTES)
            texts[field].append(reader.string())
        elif field == 5:
            expect(reader, "arg", wire, BYTES)
            args.append(_read_argument(reader.message()))
        else:
            reader.skip(wire)
    return OperatorDef(_last(texts[4]), tuple(texts[1]), tuple(texts[2]), tuple(args), _last(texts[3]), _last(texts[7]))


def _read_argument(reader: Reader) -> Argument:
    name, f, i, s = "", None, None, None
    floats: list[float] = []
    ints: list[int] = []
    strings: list[bytes] = []
    for field, wire in _fields(reader):
        if field == 1:
            expect(reader, "name", wire, BYTES)
            name = reader.string()
        elif field == 2:
            expect(reader, "f", wire, FIXED32)
            f = reader.float32()
        elif field == 3:
            expect(reader, "i", wire, VARINT)
            i = reader.int64()
        elif field == 4:
            expect(reader, "s", wire, BYTES)
            s = reader.byte_string()
        elif field == 5:
            expect(reader, "floats", wire, FIXED32, BYTES)
            floats.extend([reader.float32()] if wire == FIXED32 else reader.message().packed_float32s())
        elif field == 6:
            expect(reader, "ints", wire, VARINT, BYTES)
            ints.extend(reader.int64s(_INTS_KEY) if wire == VARINT else reader.message().packed_int64s())
        elif field == 7:
            expect(reader, "strings", wire, BYTES)
            strings.append(reader.byte_string())
        else:
            reader.skip(wire)
    return Argument(name, f, i, s, tuple(floats), tuple(ints), tuple(strings))
