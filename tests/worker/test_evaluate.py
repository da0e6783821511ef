"""Evaluation on pictures with known classes: out of folders, manifests and LMDBs of Caffe Datum records."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagequeue.contract import ClassScore
from imagequeue_worker.errors import ImageError
from imagequeue_worker.evaluation import is_right
from imagequeue_worker.images import DEFAULT_LIMITS, decode
from imagequeue_worker.labels import imagenet
from imagequeue_worker.references.datum import Datum, read_datum, write_datum
from worker_process import run_cli

MakeLmdb = Callable[..., Path]


@pytest.fixture
def make_lmdb(tmp_path: Path) -> MakeLmdb:
    def make(*records: bytes) -> Path:
        folder = tmp_path / "lmdb"
        with lmdb.open(str(folder), map_size=1 << 24) as database, database.begin(write=True) as transaction:
            for number, record in enumerate(records):
                transaction.put(f"{number:08}".encode(), record)
        return folder

    return make


def said(net_folder: Path, picture: Path) -> dict[str, object]:
    """What the net says of a picture, by the command that needs no labels."""
    done = run_cli("classify", "--json", "--net", net_folder, picture)
    best: dict[str, object] = json.loads(done.stdout)["classes"][0]
    return best


def evaluated(*arguments: str | Path) -> dict[str, object]:
    done = run_cli("evaluate", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def raw(picture: np.ndarray, label: int) -> bytes:
    height, width, channels = picture.shape
    return write_datum(Datum(picture.transpose(2, 0, 1).tobytes(), label, channels, height, width))


def test_a_folder_with_wnids_in_file_names(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    right, wrong = said(net_folder, pictures[0])["wnid"], imagenet()[0][0]
    shutil.copy(pictures[0], tmp_path / f"{right}_a.png")
    shutil.copy(pictures[0], tmp_path / f"b_{wrong}.png")
    found = evaluated("--net", net_folder, tmp_path)
    assert (found["images"], found["top1"]) == (2, 0.5)
    assert {"top5", "ms_per_image", "engine", "net"} <= set(found)


def test_a_folder_with_wnids_in_folder_names(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / str(said(net_folder, pictures[0])["wnid"])
    folder.mkdir()
    shutil.copy(pictures[0], folder)
    assert evaluated("--net", net_folder, tmp_path)["top1"] == 1.0


@pytest.mark.parametrize("column", ["wnid", "index"])
def test_a_manifest(net_folder: Path, pictures: list[Path], tmp_path: Path, column: str) -> None:
    shutil.copy(pictures[0], tmp_path / "a.png")
    manifest = tmp_path / "labels.csv"
    manifest.write_text(f"file,{column}\na.png,{said(net_folder, pictures[0])[column]}\n")
    assert evaluated("--net", net_folder, manifest)["top1"] == 1.0
    assert evaluated("--net", net_folder, tmp_path, "--labels", manifest)["top1"] == 1.0


def test_an_lmdb_of_encoded_and_raw_records(net_folder: Path, pictures: list[Path], make_lmdb: MakeLmdb) -> None:
    index = said(net_folder, pictures[0])["index"]
    assert isinstance(index, int)
    data = pictures[0].read_bytes()
    other = (index + 500) % 1000
    folder = make_lmdb(
        write_datum(Datum(data, index, encoded=True)),
        raw(decode(data, DEFAULT_LIMITS), index),
        write_datum(Datum(data, other, encoded=True)),
    )
    found = evaluated("--net", net_folder, folder)
    assert (found["images"], found["top1"]) == (3, pytest.approx(2 / 3))


def test_a_picture_that_cannot_be_read_is_not_counted(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    shutil.copy(pictures[0], tmp_path / "n00000000_a.png")
    (tmp_path / "n00000000_b.png").write_text("no picture")
    done = run_cli("evaluate", "--json", "--net", net_folder, tmp_path)
    assert done.returncode == 1
    assert (json.loads(done.stdout)["images"], json.loads(done.stdout)["failed"]) == (1, 1)


def test_the_table_names_the_worst_classes(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    shutil.copy(pictures[0], tmp_path / f"{imagenet()[3][0]}.png")
    done = run_cli("evaluate", "--net", net_folder, tmp_path)
    assert imagenet()[3][1] in done.stdout
    assert str(said(net_folder, pictures[0])["label"]) in done.stdout


@pytest.mark.parametrize(
    "text",
    ["name,class\n", "file,index\na.png,many\n", "file,index\na.png\n", "wnid,file\nn01440764\n", ""],
    ids=["columns", "index", "no index", "no file", "empty"],
)
def test_a_manifest_that_is_none_is_one_clear_line(net_folder: Path, tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text(text)
    done = run_cli("evaluate", "--net", net_folder, manifest)
    assert done.returncode == 2
    assert "labels.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_wnids_names_the_way_out(net_folder: Path, pictures: list[Path]) -> None:
    done = run_cli("evaluate", "--net", net_folder, pictures[0].parent)
    assert done.returncode == 2
    assert "--labels" in done.stderr


# --- records -----------------------------------------------------------------------------------------------------


@given(
    st.builds(
        Datum,
        data=st.binary(max_size=50),
        label=st.integers(0, 2**31 - 1),
        channels=st.integers(0, 4),
        height=st.integers(0, 9),
        width=st.integers(0, 9),
        encoded=st.booleans(),
    )
)
def test_records_survive_the_wire(datum: Datum) -> None:
    assert read_datum(write_datum(datum)) == datum


@given(st.binary(max_size=200))
def test_damaged_records_give_image_errors_only(record: bytes) -> None:
    with contextlib.suppress(ImageError):
        read_datum(record).picture(DEFAULT_LIMITS)


def test_raw_records_are_planes_of_bgr() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(read_datum(raw(picture, 1)).picture(DEFAULT_LIMITS), picture)


def test_raw_grey_is_replicated() -> None:
    grey = read_datum(write_datum(Datum(bytes([1, 2]), 0, 1, 1, 2))).picture(DEFAULT_LIMITS)
    assert grey.tolist() == [[[1, 1, 1], [2, 2, 2]]]


def test_a_raw_record_that_says_too_much_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(ImageError, match="--max"):
        Datum(b"", 0, 3, 1 << 20, 1 << 20).picture(DEFAULT_LIMITS)


# --- what is right ------------------------------------------------------------------------------------------------


def test_an_index_is_imagenets_where_the_net_knows_wnids() -> None:
    wnid, label = imagenet()[7]
    shifted = ClassScore(8, wnid, label, 1.0)  # a net whose first output is background
    assert is_right(shifted, 7)
    assert not is_right(shifted, 8)


def test_an_index_is_the_outputs_where_the_net_has_names_only() -> None:
    assert is_right(ClassScore(1, None, "dog", 1.0), 1)
