"""The command line of the worker machines, as a real process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker_process import run_cli as run


def test_classify_prints_a_table(net_folder: Path, pictures: list[Path]) -> None:
    done = run("classify", "--net", net_folder, "--top-k", "1", *pictures)
    assert done.returncode == 0, done.stderr
    assert all(str(picture) in done.stdout for picture in pictures)
    assert "%" in done.stdout


def test_classify_prints_one_json_object_per_picture(net_folder: Path, pictures: list[Path]) -> None:
    done = run("classify", "--json", "--top-k", "3", *pictures, IMAGEQUEUE_NET=str(net_folder))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["ref"] for row in rows] == [str(picture) for picture in pictures]
    assert all(len(row["classes"]) == 3 and row["status"] == "ok" for row in rows)


def test_classify_ends_with_1_when_a_picture_fails_and_the_others_are_classified(
    net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    done = run("classify", "--json", "--net", net_folder, broken, pictures[0])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [row["status"] for row in rows] == ["error", "ok"]
    assert rows[0]["error"]["code"] == "unsupported_format"


def test_a_damaged_net_is_one_line_and_exit_code_2(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    for name in ("init_net.pb", "predict_net.pb"):
        (tmp_path / name).write_bytes((net_folder / name).read_bytes()[:-1000])
    done = run("classify", "--net", tmp_path, pictures[0])
    assert done.returncode == 2
    assert "_net.pb" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_without_a_net_is_one_line_and_exit_code_2(tmp_path: Path, pictures: list[Path]) -> None:
    done = run("classify", "--net", tmp_path, pictures[0])
    assert done.returncode == 2
    assert "init_net.pb" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_engine_names_the_known_ones(net_folder: Path, pictures: list[Path]) -> None:
    done = run("classify", "--net", net_folder, "--engine", "abacus", pictures[0])
    assert done.returncode == 2
    assert "portable" in done.stderr


def test_info_tells_engines_and_net_as_json(net_folder: Path) -> None:
    done = run("info", "--json", "--net", net_folder)
    found = json.loads(done.stdout)
    assert found["engine"] in found["engines"]
    (net,) = found["nets"]
    assert (net["name"], net["input"]) == (net_folder.name, [224, 224])


def test_info_goes_on_without_a_net(tmp_path: Path) -> None:
    done = run("info", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0
    assert "fetch-net" in done.stdout


@pytest.mark.parametrize("command", ["run", "classify", "info", "fetch-net", "redis", "demo"])
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_demo_shows_every_picture_and_the_metrics(net_folder: Path) -> None:
    done = run("demo", "--net", net_folder, "--processes", "1")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 pictures classified" in done.stdout
    assert done.stdout.count("/metrics:") == 3


def test_demo_ends_with_1_when_a_picture_has_no_class(net_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no image")
    done = run("demo", "--net", net_folder, "--processes", "1", "--images", tmp_path)
    assert done.returncode == 1
    assert "unsupported_format" in done.stdout


def test_a_bad_setting_names_its_variable_or_flag() -> None:
    done = run("run", IMAGEQUEUE_BATCH_IMAGES="many")
    assert done.returncode == 2
    assert "--batch-images" in done.stderr or "IMAGEQUEUE_BATCH_IMAGES" in done.stderr
