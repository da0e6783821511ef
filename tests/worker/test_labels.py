"""What a class index means."""

import csv
import os
from pathlib import Path

import pytest

from imagequeue_worker.labels import imagenet, label_of


def test_there_are_a_thousand_classes_in_the_order_of_their_wnids():
    wnids = [wnid for wnid, _ in imagenet()]
    assert len(wnids) == 1000
    assert wnids == sorted(set(wnids))


def test_every_name_is_short_and_means_one_class():
    names = [name for _, name in imagenet()]
    assert len(set(names)) == 1000
    assert all(0 < len(name) < 40 and name == name.strip() for name in names)


@pytest.mark.parametrize(
    ("index", "wnid", "name"),
    [
        (0, "n01440764", "tench"),
        (207, "n02099601", "golden retriever"),
        (967, "n07920052", "espresso"),
        (999, "n15075141", "toilet tissue"),
    ],
)
def test_known_classes(index, wnid, name):
    assert label_of(index, 1000) == (wnid, name)


def test_a_net_without_a_thousand_outputs_has_numbered_classes():
    assert label_of(7, 10) == (None, "class 7")


@pytest.mark.parametrize("index", [-1, 1000])
def test_a_class_that_does_not_exist_is_refused(index):
    with pytest.raises(IndexError, match="0 to 999 exist"):
        label_of(index, 1000)


@pytest.mark.skipif("IMAGEQUEUE_TEST_DATA" not in os.environ, reason="IMAGEQUEUE_TEST_DATA names no folder")
def test_the_labels_agree_with_those_of_the_test_pictures():
    with (Path(os.environ["IMAGEQUEUE_TEST_DATA"]) / "images/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    for row in rows:
        assert label_of(int(row["index"]), 1000) == (row["wnid"], row["label"])
