"""`net.json`: the small file beside a net's two, which says how its pixels are made and what its outputs mean.

    {"name": "efficientnet_lite0_int8",
     "preprocessing": {"resize": 256, "crop": 224, "channel_order": "RGB", "mean": [0.498, …], "std": [0.502, …]},
     "labels": "imagenet_1k",
     "sha256": {"init_net.pb": "…", "predict_net.pb": "…"},
     "made": {"by": "imagequeue-worker quantize", …}}

`labels` is `imagenet_1k` (1,000 outputs), `imagenet_1k_background` (1,001; 0 is background, as TensorFlow has it), or
a list with a name for each output. A folder without this file is a net of the zoo's kind.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.images.spec import ZOO, Preprocessing
from imagequeue_worker.labels import IMAGENET_CLASSES, imagenet, label_of

DESCRIPTION_FILE: Final = "net.json"
NET_FILES: Final = ("init_net.pb", "predict_net.pb")
BACKGROUND: Final = (None, "background")

Labels = Literal["imagenet_1k", "imagenet_1k_background"] | tuple[str, ...] | None


class NetDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a net's folder says about its net. `labels=None`: ImageNet's where there are 1,000 outputs."""

    name: str
    preprocessing: Preprocessing = ZOO
    labels: Labels = None
    sha256: dict[str, str] = {}
    made: dict[str, Any] = {}

    def label(self, index: int, classes: int) -> tuple[str | None, str]:
        """(wnid, label) of one of the net's `classes` outputs; IndexError when there is no such class."""
        if self.labels == "imagenet_1k_background" and 0 <= index < classes == IMAGENET_CLASSES + 1:
            return imagenet()[index - 1] if index else BACKGROUND
        if isinstance(self.labels, tuple) and 0 <= index < len(self.labels):
            return None, self.labels[index]
        return label_of(index, classes)


def read_description(folder: Path) -> NetDescription | None:
    """The description in a net's folder, None where there is none.

    Raises NetUnavailable when it cannot be read, or when a file beside it has another checksum than it says.
    """
    path = folder / DESCRIPTION_FILE
    try:
        description = msgspec.json.decode(path.read_bytes(), type=NetDescription)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise NetUnavailable(f"{path} cannot be read: {error}; make the net again, or remove the file") from error
    for name, expected in description.sha256.items():
        if name not in NET_FILES or checksum(folder / name) != expected:
            raise NetUnavailable(f"{folder / name} is not the file that {DESCRIPTION_FILE} describes (sha256 differs)")
    return description


def write_description(folder: Path, description: NetDescription) -> None:
    """Write `net.json` with the checksums of the two files beside it; the same description gives the same bytes."""
    sums = {name: checksum(folder / name) for name in NET_FILES}
    text = msgspec.json.encode(msgspec.structs.replace(description, sha256=sums), order="deterministic")
    (folder / DESCRIPTION_FILE).write_bytes(msgspec.json.format(text, indent=2) + b"\n")


def checksum(path: Path) -> str:
    """sha256 of a file, hexadecimal; '' where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
