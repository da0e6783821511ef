"""EXIF orientation: found where OpenCV finds it, applied before resizing, and never a way to hang."""

import struct

import numpy as np
import oracle
import picture_files as made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue_worker.images import decode, preprocess
from imagequeue_worker.images.orientation import exif_orientation, jpeg_orientation, turn

EXIF = b"Exif\x00\x00"
XMP = b"http://ns.adobe.com/xap/1.0/\x00<x/>"


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_orientation_of_every_format_equals_opencv(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = made.encode(made.COFFEE, kind, exif=made.exif(orientation), **options)
    reference = oracle.decode(data)
    assert oracle.differing_bytes(decode(data), reference) == 0
    assert oracle.differing_bytes(preprocess(data), oracle.crop(reference)) == 0


def test_a_picture_that_lies_on_its_side_is_turned_before_it_is_resized():
    tall = made.encode(made.COFFEE.resize((300, 700)), "JPEG", exif=made.exif(6))
    assert decode(tall).shape == (300, 700, 3)


SEGMENTS = {
    "little-endian": [EXIF + made.tiff_block(6)],
    "big-endian": [EXIF + made.tiff_block(6, ">")],
    "four-byte value": [EXIF + made.tiff_block(6, kind=4)],
    "four-byte value, big-endian": [EXIF + made.tiff_block(6, ">", kind=4)],
    "two segments": [EXIF + made.tiff_block(6), EXIF + made.tiff_block(3)],
    "upright, then turned": [EXIF + made.tiff_block(1), EXIF + made.tiff_block(6)],
    "first segment without the tag": [EXIF + made.tiff_block(6, tag=0x0100), EXIF + made.tiff_block(6)],
    "first segment damaged": [EXIF + b"II", EXIF + made.tiff_block(6)],
    "metadata before": [XMP, EXIF + made.tiff_block(6)],
    "metadata after": [EXIF + made.tiff_block(6), XMP],
    "tag twice": [EXIF + made.tiff_block(6, before=[(0x0112, 3)])],
    "tag twice, first out of range": [EXIF + made.tiff_block(6, before=[(0x0112, 9)])],
    "no prefix": [b"ABCDEF" + made.tiff_block(6)],
    "other prefix": [b"Exif\x00\xff" + made.tiff_block(6)],
    "other byte order mark": [EXIF + b"II\x2b\x00" + made.tiff_block(6)[4:]],
    "more entries promised than there are": [EXIF + made.tiff_block(6)[:8] + b"\x64\x00" + made.tiff_block(6)[10:]],
    "directory further on": [EXIF + b"II*\x00" + struct.pack("<I", 20) + bytes(12) + made.tiff_block(6)[8:]],
}


@pytest.mark.parametrize("payloads", SEGMENTS.values(), ids=list(SEGMENTS))
def test_jpeg_segments_are_read_as_opencv_reads_them(payloads):
    data = made.jpeg_with_segments(*payloads)
    assert oracle.differing_bytes(decode(data), oracle.decode(data)) == 0


def test_fill_bytes_before_a_marker_are_skipped():
    data = made.jpeg_with_segments(EXIF + made.tiff_block(6))
    assert jpeg_orientation(data[:2] + b"\xff\xff\xff" + data[2:]) == 6


def test_a_segment_behind_the_start_of_scan_does_not_count():
    assert jpeg_orientation(b"\xff\xd8\xff\xda\x00\x02\xff\xe1\x00\x28" + EXIF + made.tiff_block(6)) == 1


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_png_tells_before_or_after_its_pixels(place):
    rows = b"".join(bytes([0, *range(line, line + 60)]) for line in range(40))
    data = made.png(60, 40, 8, 0, rows, **{place: made.chunk(b"eXIf", made.tiff_block(6))})
    assert decode(data).shape == (60, 40, 3)
    assert oracle.differing_bytes(decode(data), oracle.decode(data)) == 0


@pytest.mark.parametrize("cut", range(len(made.tiff_block(6))))
def test_a_block_that_is_cut_turns_or_does_not(cut):
    assert exif_orientation(made.tiff_block(6)[:cut]) in (1, 6)


@given(st.binary(max_size=300))
def test_no_bytes_disturb_the_scan(noise):
    assert jpeg_orientation(b"\xff\xd8\xff\xe1\x00\x80Exif\x00\x00" + noise) in range(1, 9)
    assert exif_orientation(b"II*\x00\x08\x00\x00\x00" + noise) in range(1, 9)


def test_a_scan_of_endless_segments_ends():
    assert jpeg_orientation(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 500_000) == 1
    assert jpeg_orientation(b"\xff\xd8" + b"\xff\xe0\x00\x00" * 500_000) == 1


def test_turning_there_and_back_is_the_same_picture():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    for there, back in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)]:
        assert (turn(turn(pixels, there), back) == pixels).all()
