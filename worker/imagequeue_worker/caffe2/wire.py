"""The protobuf wire format: bounded reading and plain writing of tags, varints and byte strings.

Reading never recurses, never allocates more than the file's own size per value, and counts every field
against a budget, so that a hostile file costs bounded time and memory. Groups (obsolete) are refused;
caffe2.proto has none.
"""

import struct

import numpy as np

from .errors import NetFormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# The zoo's MobileNetV2 needs about 25,000 fields and values; each costs about a microsecond and 40 bytes to
# read.
MAX_VALUES = 2_000_000
MAX_VARINT_BYTES = 10
WINDOW_BYTES = 1 << 20


class Reader:
    """Reads one message: the bytes from `position` to `end` of a file, which its sub-messages share."""

    __slots__ = ("_budget", "data", "end", "position")

    def __init__(self, data: bytes, position: int = 0, end: int | None = None) -> None:
        self.data = data
        self.position = position
        self.end = len(data) if end is None else end
        self._budget = [MAX_VALUES]

    def fail(self, reason: str, at: int | None = None) -> NetFormatError:
        """Make (not raise) the error for this place of the file."""
        return NetFormatError(f"damaged .pb at byte {self.position if at is None else at}: {reason}")

    def more(self) -> bool:
        """Tell whether fields are left; count one value against the budget."""
        self.spend(1)
        return self.position < self.end

    def spend(self, count: int) -> None:
        """Count values against the budget that all messages of a file share."""
        self._budget[0] -= count
        if self._budget[0] < 0:
            raise self.fail(f"more than {MAX_VALUES:,} fields and values; this is no net that could be run")

    def varint(self) -> int:
        """Read an unsigned 64-bit varint."""
        start, value, shift = self.position, 0, 0
        while True:
            if self.position >= self.end:
                raise self.fail("the file or message ends within a number", start)
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF
            shift += 7
            if shift > 63:
                raise self.fail("a number has more than ten bytes", start)

    def int64(self) -> int:
        """Read a varint as a signed 64-bit number."""
        value = self.varint()
        return value - (1 << 64) if value >> 63 else value

    def int64s(self, key: int) -> list[int]:
        """Read a signed varint and those that follow it, each behind the same one-byte tag.

        Biases are thousands of numbers with a tag each, which are read together, a window at a time.
        """
        values = [self.int64()]
        if self.data[self.position : self.position + 1] != bytes([key]):
            return values
        rest = np.frombuffer(self.data, np.uint8, min(self.end - self.position, WINDOW_BYTES), self.position)
        ends = np.flatnonzero(rest < 0x80)
        starts = np.concatenate(([0], ends[:-1] + 1))
        # Every other token is a tag: the run ends at the first that is not this one.
        tags, numbers = slice(0, 2 * (len(ends) // 2), 2), slice(1, None, 2)
        other = np.flatnonzero((rest[ends[tags]] != key) | (ends[tags] != starts[tags]))
        count = int(other[0]) if len(other) else len(ends) // 2
        starts, sizes = starts[numbers][:count], (ends[numbers] - starts[numbers] + 1)[:count]
        long = np.flatnonzero(sizes > MAX_VARINT_BYTES)
        count = int(long[0]) if len(long) else count  # the next reading of this field fails with the reason
        self.spend(count)
        total = np.zeros(count, np.uint64)
        for place in range(int(sizes[:count].max(initial=0))):
            more = sizes[:count] > place
            group = rest[starts[:count][more] + place] & np.uint8(0x7F)
            total[more] |= group.astype(np.uint64) << np.uint64(7 * place)
        self.position += int(ends[2 * count - 1]) + 1 if count else 0
        return values + total.view(np.int64).tolist()

    def tag(self) -> tuple[int, int]:
        """Read a field's number and wire type."""
        start = self.position
        key = self.varint()
        field, wire = key >> 3, key & 7
        if not 1 <= field < 1 << 29 or wire not in (VARINT, FIXED64, BYTES, FIXED32):
            raise self.fail(f"field {field} with wire type {wire} does not exist in a NetDef", start)
        return field, wire

    def fixed(self, size: int) -> bytes:
        """Read exactly `size` bytes."""
        if size > self.end - self.position:
            raise self.fail(f"a value of {size:,} bytes does not fit into the {self.end - self.position:,} left")
        start = self.position
        self.position += size
        return self.data[start : self.position]

    def float32(self) -> float:
        """Read a float of four bytes."""
        value: float = struct.unpack("<f", self.fixed(4))[0]
        return value

    def packed_int64s(self) -> list[int]:
        """Read all of a packed field: signed varints."""
        values = []
        while self.more():
            values.append(self.int64())
        return values

    def packed_float32s(self) -> list[float]:
        """Read all of a packed field: floats."""
        values = []
        while self.more():
            values.append(self.float32())
        return values

    def byte_string(self) -> bytes:
        """Read a byte string."""
        return self.fixed(self.varint())

    def string(self) -> str:
        """Read a byte string that is UTF-8 text."""
        start = self.position
        try:
            return self.byte_string().decode()
        except UnicodeDecodeError:
            raise self.fail("a name is not UTF-8 text", start) from None

    def message(self) -> "Reader":
        """Step over a sub-message and return a reader for it, sharing the budget."""
        size = self.varint()
        start = self.position
        if size > self.end - start:
            raise self.fail(f"a message of {size:,} bytes does not fit into the {self.end - start:,} left")
        self.position += size
        inner = Reader(self.data, start, self.position)
        inner._budget = self._budget
        return inner

    def skip(self, wire: int) -> None:
        """Step over a field that means nothing to us."""
        if wire == VARINT:
            self.varint()
        else:
            self.fixed({FIXED64: 8, FIXED32: 4}.get(wire) or self.varint())


def expect(reader: Reader, field: str, wire: int, *allowed: int) -> None:
    """Refuse a known field whose wire type is not one of those allowed."""
    if wire not in allowed:
        raise reader.fail(f"field {field!r} has wire type {wire}; must be {' or '.join(map(str, allowed))}")


def encode_varint(value: int) -> bytes:
    """Encode a number, negative ones as 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_int(field: int, value: int) -> bytes:
    """Encode a whole varint field."""
    return encode_varint(field << 3 | VARINT) + encode_varint(value)


def encode_float(field: int, value: float) -> bytes:
    """Encode a whole float field."""
    return encode_varint(field << 3 | FIXED32) + struct.pack("<f", value)


def encode_bytes(field: int, value: bytes) -> bytes:
    """Encode a whole byte string, text or message field."""
    return encode_varint(field << 3 | BYTES) + encode_varint(len(value)) + value
