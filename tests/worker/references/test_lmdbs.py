"""`lmdb:` references: records of Caffe's databases, found without LMDB's library."""

import io
import os
import random
from urllib.parse import quote

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagequeue.contract import ErrorCode
from imagequeue_worker.images import DEFAULT_LIMITS, decode
from imagequeue_worker.references.datum import Datum, write_datum
from imagequeue_worker.references.lmdb_file import LmdbError, find_record
from reading import code_of, references

_buffer = io.BytesIO()
Image.linear_gradient("L").save(_buffer, "JPEG")
JPEG = _buffer.getvalue()


def write(folder, records, **options):
    with lmdb.open(str(folder), map_size=1 << 26, **options) as database, database.begin(write=True) as transaction:
        for key, value in records.items():
            transaction.put(key, value)
    return folder


def find(folder, key):
    file = os.open(folder / "data.mdb", os.O_RDONLY)
    try:
        place = find_record(file, key)
        return None if place is None else os.pread(file, place.size, place.offset)
    finally:
        os.close(file)


# --- records ---


def test_an_encoded_record_is_its_file(tmp_path):
    write(tmp_path / "db", {b"00000001_n01/a b#1.JPEG": write_datum(Datum(JPEG, 3, encoded=True))})
    fetch = references(tmp_path).fetch
    for path in (f"lmdb://{tmp_path}/db", f"lmdb:{tmp_path}/db/data.mdb", "lmdb:db", f"LMDB://localhost{tmp_path}/db"):
        assert fetch(f"{path}#00000001_n01/a%20b%231.JPEG") == fetch(f"{path}#00000001_n01/a b#1.JPEG") == JPEG


@pytest.mark.parametrize("channels", [1, 3])
def test_a_raw_record_is_decoded_to_its_very_pixels(tmp_path, channels):
    planes = np.random.default_rng(0).integers(0, 256, (channels, 17, 23), np.uint8)
    datum = Datum(planes.tobytes(), 0, channels, 17, 23)
    write(tmp_path / "db", {b"k": write_datum(datum)})
    pixels = decode(references(tmp_path).fetch("lmdb:db#k"))
    np.testing.assert_array_equal(pixels, np.broadcast_to(planes.transpose(1, 2, 0), (17, 23, 3)))
    np.testing.assert_array_equal(pixels, datum.picture(DEFAULT_LIMITS))


@pytest.mark.parametrize(
    "record", [b"", b"\xff\xff", write_datum(Datum(b"12345", 0, 3, 1, 1)), b"\x22\xff\xff\xff\xff\x0f"]
)
def test_a_record_that_is_no_picture_is_refused(tmp_path, record):
    write(tmp_path / "db", {b"k": record})
    assert code_of("lmdb:db#k", tmp_path) is ErrorCode.CORRUPT


def test_a_key_that_is_not_there_is_not_found(tmp_path):
    write(tmp_path / "db", {b"k": b"v"})
    assert code_of("lmdb:db#other", tmp_path) is ErrorCode.NOT_FOUND
    assert code_of("lmdb:nothing#k", tmp_path) is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("ref", ["lmdb:db", "lmdb:db#", "lmdb:#k", "lmdb://host/db#k"])
def test_a_reference_without_file_or_key_is_unsupported(tmp_path, ref):
    write(tmp_path / "db", {b"k": b"v"})
    assert code_of(ref, tmp_path) is ErrorCode.UNSUPPORTED_REFERENCE


def test_databases_are_read_below_the_roots_only(tmp_path):
    write(tmp_path / "outside", {b"k": write_datum(Datum(JPEG, 0, encoded=True))})
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "inside").mkdir()
    (tmp_path / "root" / "inside" / "data.mdb").symlink_to(tmp_path / "outside" / "data.mdb")
    for name in ("link", "inside", "../outside", str(tmp_path / "outside")):
        assert code_of(f"lmdb:{name}#k", tmp_path / "root") is ErrorCode.FORBIDDEN


def test_a_record_above_the_limit_is_too_large(tmp_path):
    write(tmp_path / "db", {b"k": write_datum(Datum(JPEG, 0, encoded=True))})
    assert code_of("lmdb:db#k", tmp_path, image_bytes_max=100) is ErrorCode.TOO_LARGE


# --- the file ---


@pytest.mark.parametrize("count", [0, 1, 5, 3000])
def test_every_record_is_found_as_lmdb_finds_it(tmp_path, count):
    chance = random.Random(count)
    records = {}
    for number in range(count):
        key = bytes([number % 256, *chance.randbytes(chance.randrange(0, 60))])
        records[key] = chance.randbytes(chance.choice([0, 3, 100, 1500, 2030, 4090, 9000]))
    write(tmp_path / "db", records)
    for key, value in records.items():
        assert find(tmp_path / "db", key) == value
        assert find(tmp_path / "db", key + b"\x00") == records.get(key + b"\x00")
    assert find(tmp_path / "db", b"") is None
    assert find(tmp_path / "db", b"\xff" * 200) is None


def test_the_newest_state_is_read_after_any_number_of_transactions(tmp_path):
    for number in range(7):
        write(tmp_path / "db", {b"k": bytes([number]) * 5000, bytes([number]): b"x"})
        assert find(tmp_path / "db", b"k") == bytes([number]) * 5000


@pytest.mark.parametrize("flags", [0x02, 0x04, 0x08], ids=["reverse keys", "duplicates", "integer keys"])
def test_databases_that_are_ordered_otherwise_are_refused(tmp_path, flags):
    write(tmp_path / "db", {b"k": b"v"})
    data = bytearray((tmp_path / "db" / "data.mdb").read_bytes())
    for meta in (0, 4096):
        assert data[meta + 92 : meta + 94] == b"\x00\x00"
        data[meta + 92] = flags
    (tmp_path / "db" / "data.mdb").write_bytes(data)
    with pytest.raises(LmdbError, match="ordered otherwise"):
        find(tmp_path / "db", b"k")


@pytest.mark.parametrize("content", [b"", b"x" * 10_000, bytes(8192)])
def test_a_file_that_is_no_lmdb_is_corrupt(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    assert code_of(f"lmdb:{quote(str(tmp_path))}#k", tmp_path) is ErrorCode.CORRUPT


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    chance = random.Random(1)
    records = {b"%08d" % number: chance.randbytes(chance.choice([20, 300, 3000, 9000])) for number in range(300)}
    folder = write(tmp_path_factory.mktemp("lmdb") / "db", records)
    with lmdb.open(str(folder), readonly=True, lock=False) as opened:
        pages = opened.info()["last_pgno"] + 1
    return (folder / "data.mdb").read_bytes()[: pages * 4096], records


@given(st.data())
def test_a_damaged_file_gives_a_record_or_an_error_and_never_more(database, tmp_path_factory, data):
    whole, records = database
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 20))):
        page = data.draw(st.integers(0, len(whole) // 4096 - 1))
        damaged[page * 4096 + data.draw(st.integers(0, 63))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "data.mdb").write_bytes(damaged)
    for key in list(records)[::29]:
        try:
            find(folder, key)
        except LmdbError:
            continue
