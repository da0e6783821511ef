"""A batch through the pipeline: every image ends with its own outcome, whatever its neighbours do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imagequeue.contract import Image, Outcome, Request, Status, encode_job
from imagequeue_worker.images import DEFAULT_LIMITS, Limits, Preprocessing, preprocess
from imagequeue_worker.jobs import Lease, TakenJob
from imagequeue_worker.loading import Decode, Threads
from imagequeue_worker.nets import IMAGES_PER_RUN, Nets, load_nets
from imagequeue_worker.pipeline import Batch, Pipeline
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.settings import NetChoice
from programs import until

MakePipeline = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def nets(net_folder: Path) -> Nets:
    return load_nets([NetChoice(net_folder)], "auto")


@pytest.fixture
def make_pipeline(nets: Nets, pictures: list[Path]) -> MakePipeline:
    def make(decode: Decode = preprocess, threads: int = 2) -> Pipeline:
        references = References(ImageSources(image_roots=(pictures[0].parent,)))
        return Pipeline(
            nets,
            references,
            DEFAULT_LIMITS,
            threads=Threads(decoding=threads, fetching=threads),
            worker="w",
            decode=decode,
        )

    return make


def job(request: Request, *, ids: list[str] | None = None, name: str = "iq-1") -> TakenJob:
    """A job as take returns it."""
    owned = tuple(image.id for image in request.images) if ids is None else tuple(ids)
    return TakenJob(
        Lease("classify", name, "iqx"), attempt=2, losses=0, collection="default", submitted_at=10.0, taken_at=12.5,
        forbidden=False, data=encode_job(request), ids=owned,
    )  # fmt: skip


def request(*refs: Path | str, top_k: int = 5, model: str | None = None) -> Request:
    return Request(images=tuple(Image(f"i{n}", str(ref)) for n, ref in enumerate(refs)), top_k=top_k, model=model)


def classify(pipeline: Pipeline, *jobs: TakenJob) -> list[Outcome]:
    return [outcome for finished in pipeline.classify(pipeline.prepare(jobs)) for outcome in finished.outcomes]


def test_outcomes_stand_in_the_order_of_the_request(make_pipeline: MakePipeline, pictures: list[Path]) -> None:
    refs = [pictures[n % 3] for n in range(2 * IMAGES_PER_RUN + 1)]
    outcomes = classify(make_pipeline(), job(request(*refs)))
    assert [outcome.ref for outcome in outcomes] == [str(ref) for ref in refs]


def test_only_images_that_the_job_owns_are_classified(make_pipeline: MakePipeline, pictures: list[Path]) -> None:
    outcomes = classify(make_pipeline(), job(request(*pictures), ids=["i1"]))
    assert [outcome.id for outcome in outcomes] == ["i1"]


def test_classes_are_the_best_of_the_net_and_ties_go_to_the_lower_index(nets: Nets) -> None:
    probabilities = np.zeros(1000, np.float32)
    probabilities[[7, 3, 900]] = (0.25, 0.25, 0.5)
    assert [one.index for one in nets.first.best_classes(probabilities, 4)] == [900, 3, 7, 0]


def test_an_outcome_carries_attempt_worker_model_and_times(
    make_pipeline: MakePipeline, nets: Nets, pictures: list[Path]
) -> None:
    (outcome,) = classify(make_pipeline(), job(request(pictures[0])))
    assert (outcome.attempt, outcome.worker, outcome.submitted_at) == (2, "w", 10.0)
    assert outcome.seconds.queue == 2.5
    assert outcome.model == nets.first.model


def test_a_decoder_that_fails_in_any_way_harms_one_image_only(
    make_pipeline: MakePipeline, pictures: list[Path]
) -> None:
    calls = iter([MemoryError("no room"), None, ZeroDivisionError("a defect")])

    def decode(data: bytes, spec: Preprocessing, limits: Limits) -> NDArray[np.uint8]:
        if (error := next(calls)) is not None:
            raise error
        return preprocess(data, spec, limits)

    outcomes = classify(make_pipeline(decode, threads=1), job(request(*pictures)))
    assert [outcome.error.code if outcome.error else "ok" for outcome in outcomes] == ["internal", "ok", "internal"]


def test_pixels_that_the_net_refuses_end_as_internal_and_those_that_come_later_are_classified(
    make_pipeline: MakePipeline, pictures: list[Path]
) -> None:
    batches: list[Batch] = []
    places = iter(range(2 * IMAGES_PER_RUN))  # one thread decodes, in order

    def decode(data: bytes, spec: Preprocessing, limits: Limits) -> NDArray[np.uint8]:
        if next(places) < IMAGES_PER_RUN:
            return np.zeros((3, 3, 3), np.uint8)
        until(lambda: batches and all(one.outcome for one in batches[0].jobs[0].pictures[:IMAGES_PER_RUN]))
        return preprocess(data, spec, limits)

    pipeline = make_pipeline(decode, threads=1)
    batches.append(pipeline.prepare([job(request(*[pictures[0]] * (IMAGES_PER_RUN + 2)))]))
    (finished,) = pipeline.classify(batches[0])
    statuses = [outcome.status for outcome in finished.outcomes]
    assert statuses == [Status.ERROR] * IMAGES_PER_RUN + [Status.OK] * 2


def test_an_unknown_model_fetches_nothing(make_pipeline: MakePipeline) -> None:
    def decode(data: bytes, spec: Preprocessing, limits: Limits) -> NDArray[np.uint8]:
        raise AssertionError("must not be reached")

    (outcome,) = classify(make_pipeline(decode), job(request("/nowhere", model="other")))
    assert outcome.error is not None
    assert outcome.error.code == "unknown_model"


def test_a_job_that_cannot_be_read_fails_each_of_its_images(make_pipeline: MakePipeline, pictures: list[Path]) -> None:
    taken = job(request(*pictures))
    broken = TakenJob(
        taken.lease, attempt=1, losses=0, collection="default", submitted_at=0.0, taken_at=0.0, forbidden=False,
        data=b"[", ids=("i0", "i1"),
    )  # fmt: skip
    pipeline = make_pipeline()
    bad, good = pipeline.classify(pipeline.prepare([broken, job(request(pictures[0]), name="iq-2")]))
    assert [outcome.error.code for outcome in bad.outcomes if outcome.error] == ["malformed_request"] * 2
    assert bad.failure is not None
    assert [outcome.status for outcome in good.outcomes] == [Status.OK]


def test_batches_of_any_size_give_the_same_classes(make_pipeline: MakePipeline, pictures: list[Path]) -> None:
    together = classify(make_pipeline(), job(request(*pictures)))
    alone = [classify(make_pipeline(), job(request(picture)))[0] for picture in pictures]
    assert [outcome.classes for outcome in together] == [outcome.classes for outcome in alone]
