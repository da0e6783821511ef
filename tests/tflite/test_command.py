"""`imagequeue-worker import-tflite`: a whole folder that a worker can use, or one sentence and no folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from imagequeue_worker.caffe2 import PixelScaling, load_net
from imagequeue_worker.cli import Group
from imagequeue_worker.commands import import_tflite as import_tflite_command
from imagequeue_worker.commands.import_tflite import import_tflite
from imagequeue_worker.description import read_description
from tflite.tiny_tflite import NONE, TinyNet, mobile_net, picture

FILES = ["init_net.pb", "net.json", "predict_net.pb"]


def run(*arguments: str | Path) -> Result:
    """As the worker's command line runs it: its errors become a line and exit code 2."""
    group = Group("imagequeue-worker", commands=[import_tflite])
    return CliRunner().invoke(group, ["import-tflite", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "tiny_quant.tflite"
    path.parent.mkdir()
    path.write_bytes(mobile_net().file())
    return path


def with_classes(classes: int, size: int = 128, channels: int = 3) -> bytes:
    tiny = TinyNet()
    x = tiny.conv(picture(tiny, size, channels), 1 / 128, 2, (1, size, size, 2), 1)
    x = tiny.conv(tiny.mean(x, (1, 1, 1, 2)), 6 / 255, classes, (1, 1, 1, classes), 1, activation=NONE, ys=0.1, yz=60)
    tiny.softmax(tiny.reshape(x, (1, classes), 0.1, 60))
    return tiny.file()


def test_the_folder_is_a_net_that_a_worker_loads(file: Path, tmp_path: Path) -> None:
    done = run(file, "--out", tmp_path / "deep" / "net")
    assert done.exit_code == 0, done.output
    folder = tmp_path / "deep" / "net"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    description = read_description(folder)
    assert description is not None
    assert (description.name, description.labels) == ("tiny_quant", None)
    assert description.made["source"]["file"] == "tiny_quant.tflite"
    spec = description.preprocessing
    assert (spec.crop, spec.resize, spec.channel_order) == (10, 11, "RGB")
    net = load_net(folder, scaling=PixelScaling(spec.mean, spec.std))
    assert np.array_equal(net.pixel_table, np.tile(np.arange(256), (3, 1)))
    assert net.input_size == (10, 10)


def test_the_table_has_a_row_for_each_layer(file: Path, tmp_path: Path) -> None:
    output = run(file, "--out", tmp_path / "net").output
    (row,) = (line.split() for line in output.splitlines() if line.startswith("depthwise_1"))
    assert row == ["depthwise_1", "DEPTHWISE_CONV_2D", "Int8ConvRelu", "5x5x12", "0.0235294", "0"]
    assert "RGB, resize 11, crop 10, 7 classes, labels none known" in output


def test_json_says_the_same_to_programs(file: Path, tmp_path: Path) -> None:
    found = json.loads(run(file, "--out", tmp_path / "net", "--json", "--name", "mine").stdout)
    assert found["name"] == "mine"
    assert (found["input"], found["classes"]) == ([10, 10], 7)
    assert found["layers"][2]["operator"] == "Int8ConvRelu"
    assert found["sha256"] == load_net(tmp_path / "net").sha256


@pytest.mark.parametrize(
    ("classes", "labels", "last"),
    [
        (1001, "imagenet_1k_background", ("n15075141", "toilet tissue")),
        (1000, "imagenet_1k", ("n15075141", "toilet tissue")),
        (90, None, (None, "class 89")),
    ],
)
def test_the_labels_are_those_of_the_number_of_classes(
    classes: int, labels: str | None, last: tuple[str | None, str], tmp_path: Path
) -> None:
    file = tmp_path / "net.tflite"
    file.write_bytes(with_classes(classes))
    assert run(file, "--out", tmp_path / "net").exit_code == 0
    description = read_description(tmp_path / "net")
    assert description is not None
    assert description.labels == labels
    assert description.label(classes - 1, classes) == last
    assert (description.preprocessing.resize, description.preprocessing.crop) == (146, 128)


def test_the_same_file_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run(file, "--out", tmp_path / name).exit_code == 0
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_net_that_is_there_is_replaced_and_a_folder_of_something_else_is_left_alone(
    file: Path, tmp_path: Path
) -> None:
    assert run(file, "--out", tmp_path / "net").exit_code == 0
    assert run(file, "--out", tmp_path / "net", "--name", "other").exit_code == 0
    assert json.loads((tmp_path / "net" / "net.json").read_text())["name"] == "other"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    refused = run(file, "--out", tmp_path / "photos")
    assert refused.exit_code == 2
    assert "is not empty and holds no net" in refused.output
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"no net", "identifier"),
        (mobile_net().file()[:-4000], "damaged .tflite"),
        (with_classes(5, channels=1), "channels; must be squares of three channels"),
    ],
)
def test_what_is_refused_leaves_no_folder(data: bytes, word: str, file: Path, tmp_path: Path) -> None:
    file.write_bytes(data)
    done = run(file, "--out", tmp_path / "net")
    assert done.exit_code == 2
    assert word in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_full_disk_leaves_no_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = run(file, "--out", tmp_path / "net")
    assert done.exit_code == 2
    assert "No space left on device" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_file_beyond_all_nets_is_not_read(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_tflite_command, "MAX_FILE_BYTES", 1000)
    done = run(file, "--out", tmp_path / "net")
    assert done.exit_code == 2
    assert "more than 1,000 bytes" in done.output


def test_a_name_must_be_text(file: Path, tmp_path: Path) -> None:
    done = run(file, "--out", tmp_path / "net", "--name", "a\nb")
    assert done.exit_code == 2
    assert "printable" in done.output


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "none.tflite", "--out", tmp_path / "net")
    assert done.exit_code == 2
    assert "does not exist" in done.output
