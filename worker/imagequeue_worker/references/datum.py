"""Caffe's `Datum`: the record that image databases of Caffe and Caffe2 hold, encoded or raw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagequeue.contract import ErrorCode
from imagequeue_worker.caffe2.errors import NetFormatError
from imagequeue_worker.caffe2.wire import BYTES, VARINT, Reader, encode_bytes, encode_int
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import Limits, decode


@dataclass(frozen=True, slots=True)
class Datum:
    """One record. Raw data is channel by channel (CHW) uint8, BGR or grey; encoded data is an image file."""

    data: bytes
    label: int
    channels: int = 0
    height: int = 0
    width: int = 0
    encoded: bool = False

    def picture(self, limits: Limits) -> NDArray[np.uint8]:
        """The picture as Caffe2's ImageInput has it: uint8 `[height, width, 3]`, BGR; grey is replicated.

        Raises ImageError, also where the size and the data of a raw record do not fit each other.
        """
        if self.encoded:
            return decode(self.data, limits)
        limits.check_size(self.width, self.height)
        planes = self._planes()
        return np.ascontiguousarray(np.broadcast_to(planes.transpose(1, 2, 0), (self.height, self.width, 3)))

    def file(self) -> bytes:
        """The picture as an image file, from which `picture` can be decoded: a raw one becomes PPM, or PGM if grey.

        Raises ImageError `corrupt` where the size and the data of a raw record do not fit each other.
        """
        if self.encoded:
            return self.data
        planes = self._planes()
        head = f"P{'6' if self.channels == 3 else '5'} {self.width} {self.height} 255\n"
        return head.encode() + planes[::-1].transpose(1, 2, 0).tobytes()  # BGR planes, RGB pixels

    def _planes(self) -> NDArray[np.uint8]:
        expected = self.channels * self.height * self.width
        if self.channels not in (1, 3) or min(self.height, self.width) <= 0 or len(self.data) != expected:
            size = f"{self.channels}x{self.height}x{self.width}"
            raise ImageError(ErrorCode.CORRUPT, f"raw Datum of {size} has {len(self.data)} bytes; 1 or 3 channels fit")
        return np.frombuffer(self.data, np.uint8).reshape(self.channels, self.height, self.width)


_INTEGERS = {1: "channels", 2: "height", 3: "width", 5: "label"}


def read_datum(record: bytes) -> Datum:
    """Read a record; raise ImageError `corrupt` when it is none. Unknown fields are skipped."""
    values: dict[str, int] = {}
    data, encoded = b"", False
    reader = Reader(record)
    try:
        while reader.more():
            field, wire = reader.tag()
            if field in _INTEGERS and wire == VARINT:
                values[_INTEGERS[field]] = reader.int64()
            elif field == 4 and wire == BYTES:
                data = reader.byte_string()
            elif field == 7 and wire == VARINT:
                encoded = bool(reader.varint())
            else:
                reader.skip(wire)
    except NetFormatError as error:
        raise ImageError(ErrorCode.CORRUPT, f"no Caffe Datum: {error}") from error
    return Datum(data, values.pop("label", 0), encoded=encoded, **values)


def write_datum(datum: Datum) -> bytes:
    """The record's bytes, as Caffe writes them."""
    numbers = ((1, datum.channels), (2, datum.height), (3, datum.width))
    parts = [encode_int(field, value) for field, value in numbers if value]
    parts += [encode_bytes(4, datum.data), encode_int(5, datum.label), encode_int(7, int(datum.encoded))]
    return b"".join(parts)
