"""Whether a TIFF's directory is all there: Pillow reads a cut one as far as it goes, as another kind."""

from __future__ import annotations

import struct
from typing import Final

# Bytes per value of the types 1 (BYTE) to 18 (IFD8).
_TYPE_BYTES: Final = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_PRIVATE: Final = 0x8000  # tags from here on do not decide how pixels are read


def check_tiff(data: bytes) -> None:
    """Raise ValueError when the first directory of a TIFF, or what it points to, lies behind the end."""
    order = "<" if data[:2] == b"II" else ">"
    if 43 in data[2:4]:  # BigTIFF
        offset_at, count_kind, entry_kind, inline = 8, "Q", "HHQQ", 8
    else:
        offset_at, count_kind, entry_kind, inline = 4, "H", "HHII", 4
    try:
        (directory,) = struct.unpack_from(order + "QI"[inline == 4], data, offset_at)
        (count,) = struct.unpack_from(order + count_kind, data, directory)
        first = directory + struct.calcsize(order + count_kind)
        entries = data[first : first + count * struct.calcsize(order + entry_kind)]
        for tag, kind, values, place in struct.iter_unpack(order + entry_kind, entries):
            size = values * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
            if tag < _PRIVATE and size > inline and place + size > len(data):
                raise ValueError(f"its tag {tag} lies behind its end")
        if len(entries) < count * struct.calcsize(order + entry_kind):
            raise ValueError(f"its directory of {count} entries lies behind its end")
    except struct.error:
        raise ValueError("its directory lies behind its end") from None
