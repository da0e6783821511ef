"""TensorFlow's own nets on the 200 pictures: our Int8 Caffe2 nets against LiteRT, by picture and by layer.

What differs is rounding alone. QNNPACK rounds twice, half away from zero, and so do TFLite's reference kernels: they
give our bytes. TFLite's own optimized kernels (ruy) round the second time half upwards, which shows below the zero
point, in layers without Relu. XNNPACK, LiteRT's default, rounds once, in float32: one step of difference in 1 to 5 %
of a convolution's outputs, which grows from layer to layer.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from imagequeue_worker.caffe2 import Net, QTensor, run_operator
from imagequeue_worker.caffe2.netdef import OperatorDef
from imagequeue_worker.caffe2.tflite import ImportedNet, convert_tflite
from imagequeue_worker.commands.import_tflite import preprocessing
from imagequeue_worker.images import preprocess
from tflite.litert import DEFAULT, OWN, REFERENCE, LiteRT

DATA = Path(os.environ.get("IMAGEQUEUE_TEST_DATA", "."))
V1, V2 = "mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant"

pytestmark = [
    pytest.mark.skipif(
        not (DATA / "models" / "tflite").is_dir(), reason="IMAGEQUEUE_TEST_DATA names no folder with models/tflite"
    )
]

Load = Callable[[ImportedNet], Net]
Record = Callable[[str, object], None]


class Case(NamedTuple):
    """A net, and the least share of pictures on which LiteRT's kernels must give our best class."""

    net: str
    default: float
    own: float
    top1: float


# LiteRT's default kernels agree with its own others on 96 % of the pictures for this small MobileNetV1: what is
# missing is XNNPACK's rounding, not ours (measured below).
CASES = [Case(V1, default=0.95, own=0.995, top1=0.52), Case(V2, default=0.97, own=0.985, top1=0.88)]


def run_alone(op: OperatorDef, blobs: dict[str, QTensor]) -> QTensor:
    """One operator of a net on given inputs."""
    values = {arg.name: next(v for v in (arg.s, arg.i, arg.f, arg.ints) if v is not None) for arg in op.args}
    (output, *_) = run_operator(op.type, [blobs[name] for name in op.inputs], values)
    assert isinstance(output, QTensor)
    return output


def pictures() -> list[dict[str, str]]:
    with (DATA / "images" / "labels.csv").open() as file:
        return list(csv.DictReader(file))


def accuracy(probabilities: NDArray[np.generic], truth: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Best classes as ImageNet counts them (TensorFlow's 0 is the background), and top-1 and top-5 as text."""
    best = np.argsort(-probabilities.astype(float), axis=1, kind="stable")[:, :5] - 1
    top5 = np.mean(np.any(best == truth[:, None], axis=1))
    return best[:, 0], f"top-1 {np.mean(best[:, 0] == truth):.1%} top-5 {top5:.1%}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.net)
def test_the_same_best_class_on_the_pictures(case: Case, load: Load, record_property: Record) -> None:
    pytest.importorskip("ai_edge_litert")
    data = (DATA / "models" / "tflite" / f"{case.net}.tflite").read_bytes()
    imported = convert_tflite(data, case.net)
    rows, spec = pictures(), preprocessing(imported)
    pixels = np.stack([preprocess((DATA / "images" / row["file"]).read_bytes(), spec) for row in rows])
    truth = np.array([int(row["index"]) for row in rows])
    ours, text = accuracy(load(imported).run_pixels(pixels)["softmax"], truth)
    said, best = [f"{case.net}: ours {text}"], {}
    for name, kernels in (("LiteRT", DEFAULT), ("LiteRT without XNNPACK", OWN)):
        judge = LiteRT(data, kernels)
        best[kernels], text = accuracy(np.stack([judge.run(picture) for picture in pixels]), truth)
        said.append(f"{name} {text}, same top-1 as ours {np.mean(best[kernels] == ours):.1%}")
    said.append(f"LiteRT with and without XNNPACK: same top-1 {np.mean(best[DEFAULT] == best[OWN]):.1%}")
    record_property("golden_accuracy_tflite", "; ".join(said))
    assert np.mean(ours == truth) >= case.top1
    assert np.mean(best[OWN] == ours) >= case.own
    assert np.mean(best[DEFAULT] == ours) >= case.default


@pytest.mark.parametrize("name", [V1, V2])
def test_every_tensor_of_a_picture_is_that_of_tflites_reference_kernels(
    name: str, load: Load, record_property: Record
) -> None:
    pytest.importorskip("ai_edge_litert")
    data = (DATA / "models" / "tflite" / f"{name}.tflite").read_bytes()
    imported = convert_tflite(data, name)
    pixels = preprocess((DATA / "images" / pictures()[0]["file"]).read_bytes(), preprocessing(imported))
    net = load(imported)
    blobs = net.run_blobs(net.float_input(pixels[np.newaxis]))
    judges = {kernels: LiteRT(data, kernels, keep=True) for kernels in (REFERENCE, OWN, DEFAULT)}
    differing = dict.fromkeys(judges, 0)
    elements = 0
    for judge in judges.values():
        judge.run(pixels)
    for layer in imported.layers[:-1]:
        elements += blobs[layer.name].data.size
        for kernels, judge in judges.items():
            differing[kernels] += np.count_nonzero(blobs[layer.name].data != judge.tensor(layer.tensor))
    text = ", ".join(f"{kernels} {count / elements:.2%}" for kernels, count in differing.items())
    record_property(
        "golden_accuracy_tflite", f"{name}, one picture, {elements:,} values, differing from LiteRT: {text}"
    )
    record_property(f"golden:tflite {name}", [int(elements), int(differing[REFERENCE])])
    assert differing[REFERENCE] == 0


@pytest.mark.parametrize("kernels", [REFERENCE, OWN, DEFAULT])
@pytest.mark.parametrize("name", [V1, V2])
def test_each_layer_alone_differs_by_one_step_at_most(name: str, kernels: str, record_property: Record) -> None:
    """Given LiteRT's inputs of a layer, so that what earlier layers did does not count."""
    pytest.importorskip("ai_edge_litert")
    data = (DATA / "models" / "tflite" / f"{name}.tflite").read_bytes()
    imported = convert_tflite(data, name)
    judge = LiteRT(data, kernels, keep=True)
    judge.run(preprocess((DATA / "images" / pictures()[0]["file"]).read_bytes(), preprocessing(imported)))
    layers = {layer.name: layer for layer in imported.layers[:-1]}
    blobs = {
        layer.name: QTensor(judge.tensor(layer.tensor), layer.scale, layer.zero_point) for layer in layers.values()
    }
    blobs |= {op.outputs[0]: run_alone(op, {}) for op in imported.init.ops}
    counts: dict[str, list[int]] = {}
    for op in imported.predict.ops[2:-1]:
        layer = layers[op.outputs[0]]
        steps = np.abs(run_alone(op, blobs).data.astype(int) - blobs[layer.name].data)
        assert steps.max() <= (0 if kernels == REFERENCE else 1), layer
        count = counts.setdefault(layer.source, [0, 0])
        count[0] += np.count_nonzero(steps)
        count[1] += steps.size
    text = ", ".join(f"{source} {differing / size:.3%}" for source, (differing, size) in counts.items())
    record_property("golden_accuracy_tflite", f"{name}, each layer alone, differing from LiteRT {kernels}: {text}")
