"""Writes FlatBuffers, so that tests can make sound and unsound .tflite files without TensorFlow.

A table is a dict of field numbers; values are scalars with their `struct` code, vectors, texts, bytes, tables
and lists of tables. Parents come before children, every field has eight bytes, nothing is shared.
"""

from __future__ import annotations

import struct
from typing import NamedTuple


class Scalar(NamedTuple):
    code: str
    value: float


class Vector(NamedTuple):
    code: str
    values: list[float]


Table = dict[int, "Value"]
Value = Scalar | Vector | str | bytes | Table | list[Table]


def write(root: Table, identifier: bytes = b"TFL3") -> bytes:
    """The file."""
    out = bytearray(4) + identifier
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _pad(out: bytearray, to: int, ahead: int = 0) -> None:
    out.extend(bytes(-(len(out) + ahead) % to))


def _table(out: bytearray, table: Table) -> int:
    count = max(table, default=-1) + 1
    _pad(out, 8)
    fields = len(out)
    slots = [8 * (field + 1) if field in table else 0 for field in range(count)]
    out.extend(struct.pack(f"<HH{count}H", 4 + 2 * count, 8 * (count + 1), *slots))
    _pad(out, 8)
    start = len(out)
    out.extend(bytes(8 * (count + 1)))
    struct.pack_into("<i", out, start, start - fields)
    for field, value in table.items():
        position = start + 8 * (field + 1)
        if isinstance(value, Scalar):
            struct.pack_into("<" + value.code, out, position, value.value)
        else:
            struct.pack_into("<I", out, position, _reference(out, value) - position)
    return start


def _reference(out: bytearray, value: Vector | str | bytes | Table | list[Table]) -> int:
    if isinstance(value, dict):
        return _table(out, value)
    if isinstance(value, list):
        return _tables(out, value)
    if isinstance(value, Vector):
        data, count, code = struct.pack(f"<{len(value.values)}{value.code}", *value.values), len(value.values), 8
    else:
        data, code = (value.encode() + b"\0", 4) if isinstance(value, str) else (value, 16)
        count = len(data) - 1 if isinstance(value, str) else len(data)
    _pad(out, code, ahead=4)
    start = len(out)
    out.extend(struct.pack("<I", count) + data)
    return start


def _tables(out: bytearray, tables: list[Table]) -> int:
    _pad(out, 4)
    start = len(out)
    out.extend(struct.pack("<I", len(tables)) + bytes(4 * len(tables)))
    for number, table in enumerate(tables):
        position = start + 4 + 4 * number
        child = _table(out, table)
        struct.pack_into("<I", out, position, child - position)
    return start
