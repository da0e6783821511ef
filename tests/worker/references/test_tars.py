"""`tar:` references: files inside an archive."""

import io
import tarfile
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import Allowance
from reading import code_of, references

MEMBERS = {
    "a.jpg": b"first",
    "folder/b c#1.jpg": bytes(2000),
    "./dotted.jpg": b"dotted",
    "Käse/猫.jpg": b"unicode",
    "n" * 150 + "/" + "m" * 150 + ".jpg": b"long",
    "empty.jpg": b"",
}


def write(path, members=MEMBERS, mode="w", form=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=form) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
def test_members_are_read_in_any_order(tmp_path, form):
    write(tmp_path / "a.tar", form=form)
    ours = references(tmp_path)
    for name, data in [*MEMBERS.items(), *reversed(MEMBERS.items())]:
        assert ours.fetch(f"tar:{tmp_path}/a.tar#{name.removeprefix('./')}") == data


def test_names_are_percent_decoded_and_files_found_in_every_spelling(tmp_path):
    write(tmp_path / "a #1.tar")
    ours = references(tmp_path)
    for path in (f"tar://{tmp_path}/a%20%231.tar", "tar:a%20%231.tar", f"TAR:{tmp_path}/a %231.tar"):
        assert ours.fetch(f"{path}#folder/b%20c%231.jpg") == MEMBERS["folder/b c#1.jpg"]


def test_of_two_members_of_one_name_the_first_is_read_whatever_was_asked_before(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for data in (b"first", b"second", b"last"):
            info = tarfile.TarInfo("last.jpg" if data == b"last" else "a.jpg")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    ours = references(tmp_path)
    assert [ours.fetch(f"tar:a.tar#{name}") for name in ("a.jpg", "last.jpg", "a.jpg")] == [b"first", b"last", b"first"]


def test_an_archive_that_is_replaced_is_read_anew(tmp_path):
    ours = references(tmp_path)
    for data in (b"old", b"newer"):
        write(tmp_path / "next.tar", {"a.jpg": data})
        (tmp_path / "next.tar").replace(tmp_path / "a.tar")
        assert ours.fetch("tar:a.tar#a.jpg") == data


def test_threads_share_one_reading(tmp_path):
    members = {f"{number}.jpg": str(number).encode() for number in range(2000)}
    write(tmp_path / "a.tar", members)
    ours, wrong = references(tmp_path), []

    def read(numbers):
        wrong.extend(n for n in numbers if ours.fetch(f"tar:a.tar#{n}.jpg") != str(n).encode())

    threads = [threading.Thread(target=read, args=(range(start, 2000, 8),)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_no_member_is_not_found(tmp_path):
    write(tmp_path / "a.tar")
    assert code_of("tar:a.tar#other.jpg", tmp_path) is ErrorCode.NOT_FOUND
    assert code_of("tar:none.tar#a.jpg", tmp_path) is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file_is_unsupported(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("it")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert code_of("tar:a.tar#it", tmp_path) is ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_is_unsupported(tmp_path, mode):
    write(tmp_path / "a.tar", mode=mode)
    assert code_of("tar:a.tar#a.jpg", tmp_path) is ErrorCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("content", [b"", b"not a tar at all", b"x" * 5000])
def test_a_file_that_is_no_archive_is_corrupt(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    assert code_of("tar:a.tar#a.jpg", tmp_path) is ErrorCode.CORRUPT


def test_an_archive_without_its_end_is_read_as_far_as_it_goes(tmp_path):
    data = write(tmp_path / "a.tar", {"a.jpg": b"x" * 600, "b.jpg": b"y" * 600}).read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: 512 + 1024 + 512 + 1024])
    assert references(tmp_path).fetch("tar:a.tar#b.jpg") == b"y" * 600
    assert code_of("tar:a.tar#c.jpg", tmp_path) is ErrorCode.NOT_FOUND
    (tmp_path / "a.tar").write_bytes(data[: 512 + 1024 + 512 + 300])
    assert references(tmp_path).fetch("tar:a.tar#a.jpg") == b"x" * 600
    assert code_of("tar:a.tar#b.jpg", tmp_path) is ErrorCode.CORRUPT


def test_a_header_that_promises_gigabytes_reserves_nothing(tmp_path):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.PAX_FORMAT))
        file.truncate(1 << 41)  # sparse
    assert code_of("tar:a.tar#a.jpg", tmp_path) is ErrorCode.CORRUPT


def test_a_member_above_the_limit_is_too_large(tmp_path):
    write(tmp_path / "a.tar")
    assert code_of("tar:a.tar#folder/b%20c%231.jpg", tmp_path, image_bytes_max=1999) is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("ref", ["tar:a.tar", "tar:a.tar#", "tar:#a", "tar://host/a.tar#a"])
def test_a_reference_without_archive_or_member_is_unsupported(tmp_path, ref):
    write(tmp_path / "a.tar")
    assert code_of(ref, tmp_path) is ErrorCode.UNSUPPORTED_REFERENCE


def test_archives_are_read_below_the_roots_only(tmp_path):
    write(tmp_path / "a.tar")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link.tar").symlink_to(tmp_path / "a.tar")
    for name in ("link.tar", "../a.tar", f"{tmp_path}/a.tar"):
        assert code_of(f"tar:{name}#a.jpg", tmp_path / "root") is ErrorCode.FORBIDDEN


def test_a_long_archive_is_searched_on_by_the_next_try(tmp_path):
    write(tmp_path / "a.tar", {f"{number}.jpg": b"" for number in range(3000)})
    ours = references(tmp_path)

    def outcome():
        try:
            return ours.fetch("tar:a.tar#2999.jpg", Allowance("r", bytes_max=9, seconds=0.005))
        except ImageError as error:
            return error.code

    outcomes = list(iter(outcome, b""))  # until it is found
    assert set(outcomes) == {ErrorCode.FETCH_TIMEOUT}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write(tmp_path_factory.mktemp("tar") / "a.tar").read_bytes()


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_archive_gives_bytes_or_an_error(whole, tmp_path_factory, data):
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "a.tar").write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for name in MEMBERS:
        codes = set()
        try:
            references(folder, fetch_seconds=30.0).fetch(f"tar:a.tar#{name.replace('#', '%23')}")
        except ImageError as error:
            codes.add(error.code)
        assert ErrorCode.FETCH_TIMEOUT not in codes
