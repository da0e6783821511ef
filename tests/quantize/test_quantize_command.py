"""`imagequeue-worker quantize`: what it writes, says and refuses; nothing half written is ever left."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imagequeue_worker.caffe2 import PixelScaling, load_net
from imagequeue_worker.cli import Group
from imagequeue_worker.commands.quantize import quantize
from imagequeue_worker.description import read_description
from imagequeue_worker.images import Preprocessing
from imagequeue_worker.making import net_folder
from imagequeue_worker.making.calibration import make_crops, pictures_below

SMALL = ("--input-size", "32", "--crops", "4")


@pytest.fixture
def photographs(pictures: list[Path], tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in pictures[:2]:
        (folder / path.name).symlink_to(path)
    (folder / "readme.txt").write_text("no picture")
    return folder


def run(*arguments: object) -> Result:
    group = Group(commands=[quantize])
    return CliRunner().invoke(group, ["quantize", *map(str, arguments)])


def made(photographs: Path, out: Path, *more: object) -> Path:
    result = run("float_models:mobilenet", "--calibrate", photographs, "--out", out, *SMALL, *more)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(out)
    return out


def test_it_writes_a_net_that_says_how_its_pixels_are_made(photographs: Path, tmp_path: Path) -> None:
    folder = made(photographs, tmp_path / "nets" / "small", "--seed", 3)
    assert sorted(path.name for path in folder.iterdir()) == ["init_net.pb", "net.json", "predict_net.pb"]
    description = read_description(folder)
    assert description is not None
    assert description.name == "small"
    # RGB became BGR: the first convolution is reversed, and decoded pictures need not be.
    assert description.preprocessing == Preprocessing(37, 32, "BGR", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert description.made["seed"] == 3
    assert description.made["calibration"]["crops"] == 4
    assert sorted(description.made["calibration"]["files"]) == ["chelsea.png", "coffee.png"]
    assert {"torch", "numpy"} <= set(description.made["versions"])
    spec = description.preprocessing
    net = load_net(folder, scaling=PixelScaling(spec.mean, spec.std))
    assert net.input_size == (32, 32)
    crops = make_crops(pictures_below(photographs), spec, count=2).crops
    assert net.run_pixels(crops)["softmax"].shape == (2, 10)


def test_it_closes_with_a_table_of_all_layers(photographs: Path, tmp_path: Path) -> None:
    result = run("float_models:resnet", "--calibrate", photographs, "--out", tmp_path / "net", *SMALL)
    head, *rows = (line.split() for line in result.stdout.splitlines())
    assert head == ["layer", "operator", "from", "to", "scale", "zero", "point", "error"]
    assert rows[0][:4] == ["conv1", "Int8ConvRelu", "0.000", rows[0][3]]
    assert rows[10][:2] == ["fc", "Int8FC"]
    assert "the best class is the same on" in result.stdout


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(photographs: Path, tmp_path: Path) -> None:
    first, second = made(photographs, tmp_path / "a" / "net"), made(photographs, tmp_path / "b" / "net")
    for name in ("init_net.pb", "predict_net.pb", "net.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = made(photographs, tmp_path / "c" / "net", "--seed", 1)
    assert (first / "init_net.pb").read_bytes() != (other / "init_net.pb").read_bytes()


def test_a_net_that_is_there_is_replaced_as_a_whole(photographs: Path, tmp_path: Path) -> None:
    folder = made(photographs, tmp_path / "net")
    (folder / "old").touch()
    made(photographs, folder, "--name", "newer")
    assert json.loads((folder / "net.json").read_text())["name"] == "newer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "photographs"]
    assert not (folder / "old").exists()


def test_labels_of_ones_own_stand_in_the_description(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(f"kind {i}" for i in range(10)) + "\n")
    description = read_description(made(photographs, tmp_path / "net", "--labels", tmp_path / "labels.txt"))
    assert description is not None
    assert description.label(7, 10) == (None, "kind 7")


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    assert len(result.output.splitlines()) == 1
    return result.output


def test_too_few_labels_are_refused(photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("one\n")
    options = ("--labels", tmp_path / "labels.txt", "--out", tmp_path / "net", "--calibrate", photographs)
    assert "1 labels for 10 classes" in refusal(run("float_models:mobilenet", *options, *SMALL))
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(("content", "words"), [({}, "holds no files"), ({"a.txt": b"text"}, "none of 1 files")])
def test_a_calibration_folder_without_pictures_is_refused(
    content: dict[str, bytes], words: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for name, data in content.items():
        (tmp_path / "empty" / name).write_bytes(data)
    options = ("--calibrate", tmp_path / "empty", "--out", tmp_path / "net")
    assert words in refusal(run("float_models:mobilenet", *options, *SMALL))
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_model_that_cannot_be_quantized_is_one_line(photographs: Path, tmp_path: Path) -> None:
    options = ("--calibrate", photographs, "--out", tmp_path / "net", *SMALL)
    assert "swish (SiLU) has no Int8 form" in refusal(run("float_models:swish", *options))
    assert "must be package.module:callable" in refusal(run("mobilenet", *options))
    assert not (tmp_path / "net").exists()


def test_a_full_disk_leaves_what_was_there(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(photographs, tmp_path / "net")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(net_folder, "write_description", full)
    options = ("--calibrate", photographs, "--seed", 9, *SMALL)
    assert "No space left on device; free some space" in refusal(
        run("float_models:mobilenet", "--out", folder, *options)
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    refusal(run("float_models:mobilenet", "--out", tmp_path / "other", *options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net", "photographs"]


def test_a_folder_that_cannot_be_made_is_refused(photographs: Path) -> None:
    result = run("float_models:mobilenet", "--out", "/proc/none/net", "--calibrate", photographs, *SMALL)
    assert "/proc/none/net cannot be written" in refusal(result)


def test_a_folder_that_holds_something_else_is_never_replaced(photographs: Path, tmp_path: Path) -> None:
    result = run("float_models:mobilenet", "--out", photographs, "--calibrate", photographs, *SMALL)
    assert "is not empty and holds no net" in refusal(result)
    result = run("float_models:mobilenet", "--out", photographs / "readme.txt", "--calibrate", photographs, *SMALL)
    assert "is a file" in refusal(result)


def test_impossible_pixels_are_refused(photographs: Path, tmp_path: Path) -> None:
    options = ("--calibrate", photographs, "--out", tmp_path / "net", *SMALL)
    assert "must be positive" in refusal(run("float_models:mobilenet", *options, "--std", 1, 0, 1))
    assert "resized to 16" in refusal(run("float_models:mobilenet", *options, "--resize", 16))


def test_its_help_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys\nfrom imagequeue_worker.commands.quantize import quantize\n"
        "try: quantize(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "IMAGEQUEUE_CALIBRATE" in done.stdout
