"""Top-1, top-5, classes and confusions; labels out of manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagequeue.errors import ConfigurationError
from imagequeue.labels import from_pairs, read_labels
from imagequeue.reports.judging import judged
from imagequeue.reports.summary import Accuracy, ClassRow, ConfusionRow, Summary, summary_of
from imagequeue.scoring import Scores
from result_samples import BOX, CAT, CUP, DOG, FOX, SKY, failed, ok


def test_scores_count_the_best_and_the_five_best() -> None:
    scores = Scores()
    scores.add("cat", [True, False], "cat")
    scores.add("cat", [False, False, False, False, True], "dog")
    scores.add("dog", [False] * 5 + [True], "cat")
    assert (scores.images, scores.top1, scores.top5) == (3, 1 / 3, 2 / 3)
    assert [(row.truth, row.images, row.right, row.instead) for row in scores.classes()] == [
        ("cat", 2, 1, "dog"),
        ("dog", 1, 0, "cat"),
    ]


def test_confusions_come_most_frequent_first() -> None:
    scores = Scores()
    for said in ("fox", "dog", "fox"):
        scores.add("cat", [False], said)
    assert [(pair.truth, pair.said, pair.images) for pair in scores.confusions()] == [
        ("cat", "fox", 2),
        ("cat", "dog", 1),
    ]


def summary(results: list, labels: dict[str, str] | None) -> Summary:
    known = from_pairs(labels.items()) if labels else None
    return summary_of(judged(results, known), labelled=labels is not None)


def test_truths_are_indices_wnids_or_labels() -> None:
    results = [ok("a", CAT), ok("b", CAT), ok("c", CAT), ok("d", CAT)]
    found = summary(results, {"a": "281", "b": "n02123045", "c": "tabby, tabby cat", "d": "282"}).accuracy
    assert found is not None
    assert (found.images, found.top1) == (4, 0.75)


def test_errors_and_unlabelled_pictures_count_in_their_own_numbers() -> None:
    five = (CAT, DOG, CUP, FOX, BOX)
    results = [ok("a", *five), ok("b", *five), ok("more", *five), failed("c"), failed("other"), ok("few", SKY)]
    assert summary(results, {"a": "281", "b": "277", "c": "281", "few": "0"}) == Summary(
        images=6,
        ok=4,
        error=2,
        codes=summary(results, None).codes,
        classes=summary(results, None).classes,
        seconds={"p50": 1.5, "p95": 1.5, "p99": 1.5, "max": 1.5},
        accuracy=Accuracy(
            images=3,
            top1=2 / 3,
            top5=1.0,
            fewer_than_5=1,
            unlabelled=1,
            labelled_errors=1,
            classes=(
                ClassRow("red fox", 1, 0, "tabby, tabby cat"),
                ClassRow("sky", 1, 1, None),
                ClassRow("tabby, tabby cat", 1, 1, None),
            ),
            confusions=(ConfusionRow("red fox", "tabby, tabby cat", 1),),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "a.jpg 281\nsub/b.jpg 207\n",
        "file,index\na.jpg,281\nsub/b.jpg,207\n",
        "index\tref\n281\ta.jpg\n207\tsub/b.jpg\n",
        '{"file": "a.jpg", "index": 281}\n\n{"file": "sub/b.jpg", "index": 207}\n',
        '\ufeffref,wnid\n"a.jpg",n02123045\nsub/b.jpg,n02099601\n',
    ],
    ids=["list", "csv", "tsv", "json lines", "wnids behind a byte order mark"],
)
def test_labels_are_read_in_every_form(tmp_path: Path, text: str) -> None:
    manifest = tmp_path / "labels"
    manifest.write_text(text)
    labels = read_labels(manifest)
    results = [ok("1", CAT, ref=f"{tmp_path}/a.jpg"), ok("2", DOG, ref=f"file://{tmp_path}/sub/b.jpg")]
    assert [one.rank for one in judged(results, labels)] == [1, 1]


def test_labels_are_found_by_id_reference_or_last_part(tmp_path: Path) -> None:
    manifest = tmp_path / "labels.csv"
    manifest.write_text("id,label\nan-id,by id\ns3://b/x.jpg,by ref\nval/ILSVRC_1.JPEG,by last part\n")
    labels = read_labels(manifest)
    results = [ok("an-id", CAT), ok("1", CAT, ref="s3://b/x.jpg"), ok("2", CAT, ref="/mnt/ILSVRC_1.JPEG"), ok("3", CAT)]
    assert [labels.truth_of(result) for result in results] == ["by id", "by ref", "by last part", None]


def test_a_last_part_that_means_two_classes_means_none(tmp_path: Path) -> None:
    manifest = tmp_path / "labels"
    manifest.write_text("cats/1.jpg 281\ndogs/1.jpg 207\n")
    assert read_labels(manifest).truth_of(ok("x", CAT, ref="/elsewhere/1.jpg")) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no labels"),
        ("a.jpg\n", "labels.txt:1"),
        ("id,label\na,cat\nb,\n", "labels.txt:3"),
        ('{"id": "a", "index": 1}\n{"id": \n', "labels.txt:2"),
        ("a.jpg 1\na.jpg 2\n", "labels.txt:2"),
        ("\udcff 1\n", "cannot be read"),
    ],
    ids=["empty", "no class", "empty class", "no JSON", "two classes", "not UTF-8"],
)
def test_labels_that_cannot_be_read_name_the_line(tmp_path: Path, text: str, said: str) -> None:
    manifest = tmp_path / "labels.txt"
    manifest.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=said):
        read_labels(manifest)
