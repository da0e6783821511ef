"""Image files made for the tests: by Pillow where it can write them, by hand where it cannot."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from skimage import data as photographs

COFFEE = Image.fromarray(photographs.coffee()).resize((150, 100))
GREY = COFFEE.convert("L")
_RAMP = Image.fromarray((np.indices((100, 150)).sum(0) % 256).astype(np.uint8))
RGBA, LA = COFFEE.copy(), GREY.copy()
RGBA.putalpha(_RAMP)
LA.putalpha(_RAMP)
PALETTE = COFFEE.quantize(64)
BILEVEL = GREY.convert("1")
GREY16 = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 256 + np.asarray(_RAMP))
CMYK = COFFEE.convert("CMYK")


def encode(image, name, **options):
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def tiff_block(orientation, order="<", kind=3, tag=0x0112, before=()):
    """An EXIF block with one orientation entry, after the entries `before` (tag, value)."""
    entries = [(t, 3, v) for t, v in before] + [(tag, kind, orientation)]
    block = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    for entry_tag, entry_kind, value in entries:
        block += struct.pack(order + "HHI", entry_tag, entry_kind, 1)
        block += struct.pack(order + "HH", value, 0) if entry_kind == 3 else struct.pack(order + "I", value)
    return block + bytes(4)


def jpeg_with_segments(*payloads, image=COFFEE):
    """A JPEG with APP1 segments of these contents."""
    plain = encode(image, "JPEG")
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(load) + 2) + load for load in payloads)
    return plain[:2] + segments + plain[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, before=b"", after=b"", interlace=0):
    """A PNG whose inflated rows are given, true or not."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    image = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + after
    return b"\x89PNG\r\n\x1a\n" + image + chunk(b"IEND", b"")


def png_noise(width, height, depth, colour, row_bytes):
    """A PNG of random bytes without row filters."""
    rows = np.random.default_rng(row_bytes).integers(0, 256, (height, 1 + row_bytes), dtype=np.uint8)
    rows[:, 0] = 0
    return png(width, height, depth, colour, rows.tobytes())


def gif(frame, background=0, transparent=None, global_table=True, local_table=False, pixels=None):
    """A 20x10 GIF with one frame (left, top, width, height) of colour 2, or of the LZW codes `pixels`."""
    left, top, width, height = frame
    codes = [4] + [2, 4] * (width * height) + [5] if pixels is None else pixels
    bits = sum(code << 3 * place for place, code in enumerate(codes))
    stream = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    pieces = b"".join(bytes([len(stream[i : i + 255])]) + stream[i : i + 255] for i in range(0, len(stream), 255))
    table = bytes([10, 20, 30, 255, 200, 100, 9, 99, 199, 1, 1, 1])
    local = local_table or not global_table
    return b"".join(
        [
            b"GIF89a" + struct.pack("<HHBBB", 20, 10, 0x81 if global_table else 0, background, 0),
            table if global_table else b"",
            b"" if transparent is None else bytes([0x21, 0xF9, 4, 1, 0, 0, transparent, 0]),
            b"," + struct.pack("<HHHHB", left, top, width, height, 0x81 if local else 0),
            table if local else b"",
            b"\x02" + pieces + b"\x00;",
        ]
    )


def bmp(bits, pixels, masks=None, height=None):
    """A BMP around packed pixels [rows, columns]; with `masks`, of the bit-field kind."""
    extra = struct.pack("<III", *masks) if masks else b""
    rows, columns = pixels.shape[:2]
    body = struct.pack("<IiiHHIIiiII", 40, columns, height or rows, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0)
    offset = 14 + len(body) + len(extra)
    return b"BM" + struct.pack("<IHHI", offset + pixels.nbytes, 0, 0, offset) + body + extra + pixels.tobytes()
