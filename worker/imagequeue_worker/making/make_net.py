"""From a float model to a net's folder: what `quantize` and `default-net` share.

model -> layers -> calibration crops -> Int8 layers -> files, loaded again and compared -> folder with `net.json`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from imagequeue_worker.caffe2 import PixelScaling, load_net
from imagequeue_worker.caffe2.quantize import (
    FloatNet,
    InvalidModel,
    LayerReport,
    QuantizedNet,
    fold,
    importer,
    net_files,
    quantize_net,
    read_layers,
    reverse_channels,
)
from imagequeue_worker.caffe2.quantize.teacher import run_net
from imagequeue_worker.caffe2.quantize.writer import blob_of
from imagequeue_worker.description import Labels, NetDescription
from imagequeue_worker.images import Preprocessing
from imagequeue_worker.labels import IMAGENET_CLASSES
from imagequeue_worker.making.calibration import Calibration
from imagequeue_worker.making.net_folder import write_net_folder

Report = Callable[[LayerReport, int], None]
"""Told each layer's report, and how many layers there are."""

TOLERANCE: Final = 1e-4  # of our float layers against PyTorch's, relative to the largest logit
_COMPARED: Final = 8  # calibration crops that the written net is run on


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a net is made. `spec`: its pixels, in the channel order that the model was trained on."""

    name: str
    spec: Preprocessing
    labels: Labels = None
    seed: int = 0
    threads: int = 2


def import_model(model: Any, input_size: int, threads: int) -> FloatNet:  # noqa: ANN401  a module or exported program
    """Read a model into folded layers, and compare them with the model itself on random input.

    Raises caffe2.quantize.QuantizeError: what is wrong with the model.
    """
    importer.use_threads(threads)
    nodes = importer.read_nodes(model, input_size)
    net = fold(read_layers(nodes))
    image = np.random.default_rng(0).standard_normal((1, net.input_shape[2], *net.input_shape[:2]), np.float32)
    wanted = importer.model_outputs(model, image).reshape(-1)
    got = run_net(net, np.ascontiguousarray(image[0].transpose(1, 2, 0)))
    if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        raise InvalidModel("the model computes NaN or infinity on random input; check its weights")
    if nodes.ends_in_softmax:
        got = np.exp(got - got.max())
        got /= got.sum()
    worst = float(np.abs(got - wanted).max()) if got.shape == wanted.shape else np.inf
    if not worst <= TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise InvalidModel(
            f"the layers read from the model differ from it by {worst:.3g} on random input; must be within "
            f"{TOLERANCE:g}; report this model as a defect"
        )
    return net


def for_runtime(net: FloatNet, spec: Preprocessing) -> tuple[FloatNet, Preprocessing]:
    """Reverse the channels of an RGB net where its first layer allows: decoded pictures are BGR already."""
    reversed_net = reverse_channels(net) if spec.channel_order == "RGB" else None
    if reversed_net is None:
        return net, spec
    return reversed_net, Preprocessing(spec.resize, spec.crop, "BGR", spec.mean[::-1], spec.std[::-1])


def make_net(
    net: FloatNet, recipe: Recipe, calibration: Calibration, folder: Path, report: Report | None = None
) -> QuantizedNet:
    """Quantize layers in the runtime's channel order, and write the folder.

    Raises caffe2.Caffe2Error: the model cannot be quantized; NetUnavailable: the folder cannot be written.
    """
    scaling = PixelScaling(recipe.spec.mean, recipe.spec.std)
    quantized = quantize_net(net, calibration.crops, scaling, seed=recipe.seed, threads=recipe.threads, progress=report)
    classes = quantized.student_logits.shape[1]
    labels = recipe.labels or ("imagenet_1k" if classes == IMAGENET_CLASSES else None)
    if isinstance(labels, tuple) and len(labels) != classes:
        raise InvalidModel(f"there are {len(labels)} labels for {classes} classes; must be one each")
    description = NetDescription(
        name=recipe.name,
        preprocessing=recipe.spec,
        labels=labels,
        made=how_made(recipe, calibration, quantized),
    )
    files = net_files(quantized, recipe.name)
    write_net_folder(folder, files, description, check=lambda part: compare(part, quantized, calibration, scaling))
    return quantized


def how_made(recipe: Recipe, calibration: Calibration, quantized: QuantizedNet) -> dict[str, Any]:
    """What makes a net's bytes: the same values on the same kind of machine give the same bytes."""
    return {
        # Float sums depend on it; the command line sets 1.
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "all"),
        "by": "imagequeue-worker",
        "calibration": {
            "crops": len(calibration.crops),
            "files": list(calibration.sources),
            "sha256": calibration.sha256,
        },
        "machine": platform.machine(),
        "same_top1_on_calibration": round(quantized.agreement, 4),
        "seed": recipe.seed,
        "threads": recipe.threads,
        "versions": {name: version(name) for name in ("imagequeue", "numpy", "torch")},
    }


def compare(folder: Path, quantized: QuantizedNet, calibration: Calibration, scaling: PixelScaling) -> None:
    """Load the written files, and compare their logits with the quantizer's own, byte for byte.

    Raises InvalidModel when one differs.
    """
    loaded = load_net(folder, scaling=scaling)
    blobs = loaded.run_blobs(loaded.float_input(calibration.crops[:_COMPARED]))
    logits = blobs[blob_of(quantized.layers[-1].name)]
    got = np.asarray(getattr(logits, "data", logits)).reshape(-1, quantized.student_logits.shape[1])
    differing = int(np.count_nonzero(got != quantized.student_logits[:_COMPARED]))
    if differing:
        raise InvalidModel(
            f"{differing} of {got.size} logits of the written net differ from the quantizer's; report it"
        )
