"""How often a net is right, and how fast: the model card's validation. What is counted stands in imagequeue.scoring."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imagequeue.contract import ClassScore
from imagequeue.scoring import TOP, Scores
from imagequeue_worker.errors import ImageError
from imagequeue_worker.evaluation.labelled import LabelledPicture, Truth
from imagequeue_worker.images import Limits, crop_for
from imagequeue_worker.labels import imagenet
from imagequeue_worker.nets import IMAGES_PER_RUN, LoadedNet


@dataclass(slots=True)
class Evaluation(Scores):
    """The scores of a net, by the names of classes; `net_seconds` is the net's time alone."""

    net_seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)  # (picture, why it was not counted)

    @property
    def ms_per_image(self) -> float:
        """The net's time for one picture, in milliseconds."""
        return 1000 * self.net_seconds / self.images if self.images else 0.0


def evaluate(
    pictures: Iterable[LabelledPicture],
    net: LoadedNet,
    limits: Limits,
    *,
    threads: int,
    on_picture: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Classify every picture and compare; a picture that cannot be read is noted and not counted."""
    found = Evaluation()
    batch: list[tuple[LabelledPicture, NDArray[np.uint8]]] = []
    for picture, crop in _crops(pictures, net, limits, threads):
        on_picture()
        if isinstance(crop, str):
            found.failures.append((picture.name, crop))
            continue
        batch.append((picture, crop))
        if len(batch) == IMAGES_PER_RUN:
            _score(found, net, batch)
            batch.clear()
    if batch:
        _score(found, net, batch)
    return found


def _crops(
    pictures: Iterable[LabelledPicture], net: LoadedNet, limits: Limits, threads: int
) -> Iterator[tuple[LabelledPicture, NDArray[np.uint8] | str]]:
    """Decode ahead in threads, a bounded number at a time; the reason instead of pixels where that fails."""

    def load(picture: LabelledPicture) -> NDArray[np.uint8] | str:
        try:
            return crop_for(picture.load(limits), net.description.preprocessing)
        except (ImageError, OSError) as error:
            return str(error)

    ahead: deque[tuple[LabelledPicture, Future[NDArray[np.uint8] | str]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for picture in pictures:
            ahead.append((picture, pool.submit(load, picture)))
            if len(ahead) > 2 * IMAGES_PER_RUN:
                first, crop = ahead.popleft()
                yield first, crop.result()
        while ahead:
            first, crop = ahead.popleft()
            yield first, crop.result()


def _score(found: Evaluation, net: LoadedNet, batch: list[tuple[LabelledPicture, NDArray[np.uint8]]]) -> None:
    started = time.perf_counter()
    probabilities = net.probabilities(np.stack([crop for _, crop in batch]))
    found.net_seconds += time.perf_counter() - started
    for (picture, _), row in zip(batch, probabilities, strict=True):
        best = net.best_classes(row, TOP)
        hits = [is_right(one, picture.truth) for one in best]
        found.add(_name_of(picture.truth), hits, best[0].label)


def is_right(answer: ClassScore, truth: Truth) -> bool:
    """Whether a net's answer is the truth: by wnid where both have one, else by the output's index."""
    if isinstance(truth, str):
        return answer.wnid == truth
    if answer.wnid is not None and 0 <= truth < len(imagenet()):
        return answer.wnid == imagenet()[truth][0]
    return answer.index == truth


def _name_of(truth: Truth) -> str:
    """What a class is called in a table."""
    if isinstance(truth, str):
        return dict(imagenet()).get(truth, truth)
    return imagenet()[truth][1] if 0 <= truth < len(imagenet()) else f"class {truth}"
