"""The FlatBuffers format: bounded reading of tables, vectors and texts.

A file is a web of offsets that may point anywhere, also several to the same place. So every read checks its
bounds, every list has a limit, and nothing is read before it is asked for: a hostile file costs no more than
its own size allows.
"""

import struct

from imagequeue_worker.caffe2.errors import NetFormatError

# Fields that any table of the schema has and we ask for; later ones are left unread.
MAX_FIELDS = 16

_SIZES = {code: struct.calcsize("<" + code) for code in "bBHiIqf"}


def fail(position: int, reason: str) -> NetFormatError:
    """Make (not raise) the error for a place of the file."""
    return NetFormatError(f"damaged .tflite at byte {position}: {reason}; fetch or convert the file again")


def root(data: bytes, identifier: bytes) -> "Table":
    """Return the root table of a file that must carry an identifier.

    Raises:
        NetFormatError: The file is too short, or another one.
    """
    if data[4:8] != identifier:
        found = bytes(data[4:8])
        raise fail(4, f"the identifier is {found!r}; a TensorFlow Lite file has {identifier!r} there")
    return Table(data, _offset(data, 0))


def _check(data: bytes, position: int, size: int) -> None:
    if not 0 <= position <= len(data) - size:
        raise fail(position, f"{size} bytes are not inside the file's {len(data):,}")


def _read(data: bytes, position: int, code: str) -> int:
    _check(data, position, _SIZES[code])
    value: int = struct.unpack_from("<" + code, data, position)[0]
    return value


def _read_real(data: bytes, position: int) -> float:
    _check(data, position, 4)
    value: float = struct.unpack_from("<f", data, position)[0]
    return value


def _offset(data: bytes, position: int) -> int:
    return position + _read(data, position, "I")


class Table:
    """One table: fields are asked for by number, as the schema counts them; absent ones have defaults."""

    __slots__ = ("_data", "_position", "_slots")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        fields = position - _read(data, position, "i")
        size = _read(data, fields, "H")
        if size < 4 or fields + size > len(data):
            raise fail(fields, f"a table's list of fields has {size} bytes")
        count = min((size - 4) // 2, MAX_FIELDS)
        self._slots: tuple[int, ...] = struct.unpack_from(f"<{count}H", data, fields + 4)

    def _field(self, field: int) -> int | None:
        """The position of a field, None where it is absent."""
        slot = self._slots[field] if field < len(self._slots) else 0
        return self._position + slot if slot else None

    def integer(self, field: int, code: str, default: int = 0) -> int:
        """Read an integer; `code` is one of `struct`."""
        position = self._field(field)
        return default if position is None else _read(self._data, position, code)

    def real(self, field: int, default: float = 0.0) -> float:
        """Read a float32."""
        position = self._field(field)
        return default if position is None else _read_real(self._data, position)

    def table(self, field: int) -> "Table | None":
        """Read a table, None where it is absent."""
        position = self._field(field)
        return None if position is None else Table(self._data, _offset(self._data, position))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Return the position of a vector's first element, and their number; all lie inside the file."""
        position = self._field(field)
        if position is None:
            return 0, 0
        start = _offset(self._data, position)
        count = _read(self._data, start, "I")
        if count * size > len(self._data) - start - 4:
            raise fail(start, f"a list of {count:,} values reaches beyond the file's {len(self._data):,} bytes")
        return start + 4, count

    def _limited(self, field: int, size: int, limit: int) -> tuple[int, int]:
        start, count = self._vector(field, size)
        if count > limit:
            raise fail(start, f"a list has {count:,} values; no net that could be run has more than {limit:,}")
        return start, count

    def length(self, field: int) -> int:
        """Count a vector's elements without reading them."""
        return self._vector(field, 1)[1]

    def first_integer(self, field: int, code: str, default: int = 0) -> int:
        """Read the first integer of a vector."""
        start, count = self._vector(field, _SIZES[code])
        return _read(self._data, start, code) if count else default

    def first_real(self, field: int, default: float = 0.0) -> float:
        """Read the first float32 of a vector."""
        start, count = self._vector(field, 4)
        return _read_real(self._data, start) if count else default

    def integers(self, field: int, code: str, limit: int) -> tuple[int, ...]:
        """Read a vector of integers."""
        start, count = self._limited(field, _SIZES[code], limit)
        return struct.unpack_from(f"<{count}{code}", self._data, start)

    def tables(self, field: int, limit: int) -> "list[Table]":
        """Read a vector of tables."""
        start, count = self._limited(field, 4, limit)
        return [Table(self._data, _offset(self._data, start + 4 * number)) for number in range(count)]

    def text(self, field: int, limit: int) -> str:
        """Read a text, cut after `limit` bytes; what is no UTF-8 becomes question marks."""
        start, count = self._vector(field, 1)
        return self._data[start : start + min(count, limit)].decode(errors="replace")

    def raw(self, field: int) -> memoryview:
        """Return a vector of bytes, not copied."""
        start, count = self._vector(field, 1)
        return memoryview(self._data)[start : start + count]
