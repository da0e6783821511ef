"""`imagequeue results` and `imagequeue report`: formats, files, labels, and where results come from."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from imagequeue import Image, Producer, Status, contract
from imagequeue.journal import journal_path
from imagequeue.journal_writing import Journal
from imagequeue.reports.rows import COLUMNS
from imagequeue.sources.items import Listed
from imagequeue.terminal import json_line
from producer_hand import CommandLine, Settle
from result_samples import CAT, CUP, DOG, failed, ok


@pytest.fixture
def collection(producer: Producer, settle: Settle) -> str:
    """Two tabby cats and an error."""
    producer.submit_many([Image(id_, f"/pictures/{id_}.jpg") for id_ in "abc"], collection="holidays")
    for id_, status in zip("abc", (Status.OK, Status.OK, Status.ERROR), strict=True):
        settle(id_, status, "holidays")
    return "holidays"


@pytest.fixture
def results_file(tmp_path: Path) -> Path:
    """A cat, a dog that is taken for a cat, a cup, and an error."""
    file = tmp_path / "results.jsonl"
    results = [ok("cat", CAT, DOG), ok("dog", CAT, DOG), ok("cup", CUP), failed("gone")]
    file.write_text("".join(f"{json_line(result)}\n" for result in results))
    return file


@pytest.fixture
def labels_file(tmp_path: Path) -> Path:
    file = tmp_path / "labels.csv"
    file.write_text("id,index\ncat,281\ndog,207\ncup,967\ngone,1\n")
    return file


# --- results -------------------------------------------------------------------------------------------------------


def test_csv_has_a_header_and_a_row_per_picture(imagequeue: CommandLine, collection: str) -> None:
    answer = imagequeue("results", "a", "c", "--collection", collection, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.stdout, newline="")))
    assert list(rows[0]) == list(COLUMNS)
    cells = [(row["id"], row["status"], row["label"], row["probability"], row["code"]) for row in rows]
    assert cells == [("a", "ok", "tabby, tabby cat", "0.75", ""), ("c", "error", "", "", "not_found")]


def test_json_lines_are_read_again(imagequeue: CommandLine, collection: str) -> None:
    printed = imagequeue("results", "--collection", collection, "--json").stdout
    again = imagequeue("results", "--from", "-", "--json", typed=printed.encode())
    assert again.stdout == printed
    assert {contract.decode_result(line.encode()).id for line in printed.splitlines()} == set("abc")


def test_parquet_has_types_and_the_rows_of_csv(imagequeue: CommandLine, results_file: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "results.parquet"
    assert imagequeue("results", "--from", str(results_file), "-o", str(output)).exit_code == 1  # one is an error
    table = parquet.read_table(output)
    assert table.column_names == list(COLUMNS)
    assert table["label"].to_pylist() == ["tabby, tabby cat", "tabby, tabby cat", "espresso", None]
    assert table["probability"].to_pylist() == [0.6, 0.6, 0.6, None]
    assert str(table.schema.field("index").type) == "int64"


def test_labels_bring_the_known_class_and_its_rank(
    imagequeue: CommandLine, results_file: Path, labels_file: Path
) -> None:
    chosen = ("results", "--from", str(results_file), "--labels", str(labels_file))
    lines = [json.loads(line) for line in imagequeue(*chosen, "--json").stdout.splitlines()]
    assert [(line["truth"], line["rank"]) for line in lines] == [(281, 1), (207, 2), (967, 1), (1, None)]
    header, _, dog, *_ = imagequeue(*chosen, "cat", "dog").stdout.splitlines()
    assert header.split()[-3:] == ["known", "class", "rank"]
    assert dog.split()[-2:] == ["207", "2"]


def test_ids_choose_among_the_lines_of_a_file(imagequeue: CommandLine, results_file: Path) -> None:
    answer = imagequeue("results", "cup", "nobody", "--from", str(results_file))
    assert "/pictures/cup.jpg" in answer.stdout
    assert "/pictures/cat.jpg" not in answer.stdout
    assert (answer.exit_code, answer.stderr) == (1, f"no result in {results_file}: nobody\n")


def test_a_line_that_is_no_result_is_named(imagequeue: CommandLine, results_file: Path) -> None:
    with results_file.open("a") as file:
        file.write('{"id": "x"}\n')
    answer = imagequeue("results", "--from", str(results_file), "--json")
    assert (answer.exit_code, f"{results_file}:5: " in answer.stderr) == (2, True)


def test_a_file_appears_whole_or_not_at_all(imagequeue: CommandLine, results_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "results.csv"
    output.parent.mkdir()
    output.write_text("as it was")
    results_file.write_text(results_file.read_text() + "broken\n")
    assert imagequeue("results", "--from", str(results_file), "-o", str(output)).exit_code == 2
    assert {path.name: path.read_text() for path in output.parent.iterdir()} == {"results.csv": "as it was"}


def test_a_file_gets_the_permissions_of_any_new_file(
    imagequeue: CommandLine, results_file: Path, tmp_path: Path
) -> None:
    plain, output = tmp_path / "plain", tmp_path / "results.csv"
    plain.touch()
    imagequeue("results", "--from", str(results_file), "-o", str(output))
    assert output.stat().st_mode == plain.stat().st_mode


def test_a_pipe_is_written_to_and_not_replaced(imagequeue: CommandLine, results_file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    imagequeue("results", "--from", str(results_file), "--format", "csv", "-o", str(pipe))
    assert os.read(reader, 1 << 16).startswith(b"id,ref,status")
    os.close(reader)
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["results", "-o", "x.html"], "imagequeue report"),
        (["report", "-o", "x.csv"], "imagequeue results"),
        (["results", "--json", "--format", "csv"], "leave one of them out"),
        (["results", "--from", "-", "--run", "r"], "one place"),
        (["results", "--from", "/nowhere"], "cannot be read"),
        (["results", "--run", "nobody"], "journal"),
        (["results", "--format", "csv", "-o", "/nowhere/x.csv"], "cannot be written"),
        (["report", "--labels", "/nowhere"], "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told(
    imagequeue: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = imagequeue(*arguments, XDG_STATE_HOME=str(tmp_path))
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert said in answer.stderr


# --- the journal of a run ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run whose manifest had labels: one right, one wrong."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Journal(journal_path("validation")) as journal:
        journal.begin(b"{}", ["list.csv"])
        labels = {"cat": "281", "dog": "n02099601"}
        journal.note(0, [Listed(Image(id_, f"/pictures/{id_}.jpg"), "", "", label) for id_, label in labels.items()])
        journal.settle([ok("cat", CAT, DOG), ok("dog", CAT, DOG)], "1-0")
    return "validation"


def test_the_journal_of_a_run_is_read_without_redis(imagequeue: CommandLine, run: str) -> None:
    answer = imagequeue("results", "--run", run, "--format", "csv", "--redis-url", "redis://127.0.0.1:1/0")
    assert [row["rank"] for row in csv.DictReader(io.StringIO(answer.stdout))] == ["1", "2"]
    assert answer.exit_code == 0


def test_the_labels_of_a_run_are_its_manifests(imagequeue: CommandLine, run: str) -> None:
    accuracy = json.loads(imagequeue("report", "--run", run, "--json").stdout)["accuracy"]
    assert (accuracy["images"], accuracy["top1"], accuracy["top5"]) == (2, 0.5, 1.0)


def test_a_journal_elsewhere_is_read_by_its_path(imagequeue: CommandLine, run: str) -> None:
    answer = imagequeue("results", "--journal", str(journal_path(run)), "--json")
    assert [json.loads(line)["id"] for line in answer.stdout.splitlines()] == ["cat", "dog"]


# --- report --------------------------------------------------------------------------------------------------------


def test_a_report_counts_results_errors_and_classes(imagequeue: CommandLine, collection: str) -> None:
    lines = imagequeue("report", "--collection", collection).stdout.splitlines()
    assert lines[0].split() == ["images", "3:", "2", "ok,", "1", "ended", "in", "an", "error"]
    assert ["not_found", "1"] in [line.split() for line in lines]
    assert ["tabby,", "tabby", "cat", "2"] in [line.split() for line in lines]


def test_a_report_with_labels_tells_what_is_taken_for_what(
    imagequeue: CommandLine, results_file: Path, labels_file: Path
) -> None:
    answer = imagequeue("report", "--from", str(results_file), "--labels", str(labels_file))
    assert "66.67%, 100.00% of 3 with a label" in answer.stdout
    assert "golden retriever  tabby, tabby cat         1" in answer.stdout
    assert answer.exit_code == 0


def test_a_report_of_nothing_is_exit_code_1(imagequeue: CommandLine) -> None:
    answer = imagequeue("report", "--collection", "nobody")
    assert (answer.exit_code, answer.stdout, answer.stderr) == (1, "", "no result in nobody\n")


def test_a_report_may_be_a_file(imagequeue: CommandLine, results_file: Path, tmp_path: Path) -> None:
    table, summary = tmp_path / "report.txt", tmp_path / "report.json"
    imagequeue("report", "--from", str(results_file), "-o", str(table))
    imagequeue("report", "--from", str(results_file), "-o", str(summary))
    assert table.read_text().startswith("images")
    assert json.loads(summary.read_text())["codes"] == [{"name": "not_found", "images": 1}]


def test_an_html_report_is_one_page(imagequeue: CommandLine, collection: str, tmp_path: Path) -> None:
    page = tmp_path / "sheet.html"
    answer = imagequeue("report", "--collection", collection, "-o", str(page), "--title", "<b>[[script]]")
    assert (answer.exit_code, answer.stdout) == (0, "")
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<h1>&lt;b&gt;[[script]]</h1>" in text
    assert text.count('"id":') == 3
