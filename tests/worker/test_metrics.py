"""A process's metrics: what is summed before it is written, and what outlives the process that wrote it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from imagequeue.contract import Failure, Model, Outcome, StageSeconds, Status
from imagequeue_worker.jobs import FinishedJob, Lease, TakenJob
from imagequeue_worker.metrics import STAGE_BUCKETS, Metrics, SupervisorMetrics
from imagequeue_worker.metrics_server import SlotsCollector
from imagequeue_worker.tally import BatchHistogram

STORM = Path(__file__).with_name("metrics_storm.py")
STAGES = ("queue", "fetch", "decode", "infer", "finish", "image")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def taken(*ids: str, waited: float = 2.0, queue: str = "classify") -> TakenJob:
    return TakenJob(Lease(queue, "iq-1", "iq1"), 1, 0, "c", 100.0, 100.0 + waited, False, b"", ids)


def ok(id_: str, **seconds: float) -> Outcome:
    return Outcome(id=id_, ref="/x", status=Status.OK, model=Model("net", "0"), seconds=StageSeconds(**seconds))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"imagequeue_{name}", labels)


# --- what is counted -------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.sampled_from(STAGE_BUCKETS), st.floats(0, 100)), max_size=50))
def test_many_observations_at_once_are_what_they_are_one_by_one(values: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch = BatchHistogram("h", "h", buckets=STAGE_BUCKETS, registry=ours)
    single = Histogram("h", "h", buckets=STAGE_BUCKETS, registry=theirs)
    spread = batch.spread()
    for one in values:
        spread.add(one)
        single.observe(one)
    batch.add(spread)
    batch.add(spread)  # it is empty now
    (mine,), (reference,) = ours.collect(), theirs.collect()

    def samples(metric: object) -> dict[str, float]:
        found = metric.samples  # type: ignore[attr-defined]
        return {f"{one.name}{one.labels}": one.value for one in found if not one.name.endswith("_created")}

    assert samples(mine) == pytest.approx(samples(reference))


def test_every_stage_of_an_image_is_observed_once(metrics: Metrics, registry: CollectorRegistry) -> None:
    job = taken("a", "b")
    outcomes = [ok(id_, fetch=0.01, decode=0.02, infer=0.03) for id_ in job.ids]
    metrics.tally.published([(FinishedJob(job), outcomes)], job.taken_monotonic)
    metrics.tally.write()
    for stage in STAGES:
        assert value(registry, f"{stage}_seconds_count") == 2, stage
    assert value(registry, "queue_seconds_sum") == 4.0
    assert value(registry, "fetch_seconds_sum") == pytest.approx(0.02)
    assert (value(registry, "image_seconds_sum") or 0) >= 4.0


def test_an_image_that_ended_early_is_not_in_the_later_stages(metrics: Metrics, registry: CollectorRegistry) -> None:
    job = taken("a")
    failed = Outcome(
        id="a", ref="/x", status=Status.ERROR, error=Failure("not_found", ""), seconds=StageSeconds(fetch=0.5)
    )
    metrics.tally.published([(FinishedJob(job), [failed])], job.taken_monotonic)
    metrics.tally.write()
    counts = {stage: value(registry, f"{stage}_seconds_count") for stage in STAGES}
    assert counts == {"queue": 1, "fetch": 1, "decode": 0, "infer": 0, "finish": 1, "image": 1}
    labels = {"queue": "classify", "model": "", "status": "error", "code": "not_found"}
    assert value(registry, "images_total", **labels) == 1


def test_images_are_counted_by_queue_model_status_and_code(metrics: Metrics, registry: CollectorRegistry) -> None:
    for _ in range(2):
        metrics.tally.published([(FinishedJob(taken("a", "b", "c")), [ok("a"), ok("b")])], 0.0)
        metrics.tally.write()
    labels = {"queue": "classify", "model": "net", "status": "ok", "code": ""}
    assert value(registry, "images_total", **labels) == 4


KINDS = st.tuples(
    st.sampled_from(["classify", "classify-low"]), st.sampled_from(["", "m", "n"]), st.sampled_from(["", "x", "y"])
)


@given(st.lists(st.lists(KINDS, max_size=6), max_size=6))
def test_mixed_queues_nets_and_codes_are_counted_as_they_are(jobs: list[list[tuple[str, str, str]]]) -> None:
    registry = CollectorRegistry()
    metrics, models = Metrics(registry), {"": None, "m": Model("m", "0"), "n": Model("n", "0")}
    published, expected = [], Counter()
    for kinds in jobs:
        queue = kinds[0][0] if kinds else "classify"
        outcomes = [mixed(models[model], code) for _, model, code in kinds]
        published.append((FinishedJob(taken("a", queue=queue)), outcomes))
        expected.update((queue, model, "error" if code else "ok", code) for _, model, code in kinds)
    metrics.tally.published(published, 0.0)
    metrics.tally.write()
    (images,) = (metric for metric in registry.collect() if metric.name == "imagequeue_images")
    names = ("queue", "model", "status", "code")
    found = {
        tuple(one.labels[name] for name in names): one.value for one in images.samples if one.name.endswith("_total")
    }
    assert found == expected
    assert value(registry, "finish_seconds_count") == expected.total()


def mixed(model: Model | None, code: str) -> Outcome:
    status, failure = (Status.ERROR, Failure(code, "")) if code else (Status.OK, None)
    return Outcome(id="a", ref="/x", status=status, model=model, error=failure)


def test_a_clock_that_went_back_is_no_negative_wait(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.tally.published([(FinishedJob(taken("a", waited=-5.0)), [ok("a")])], 0.0)
    metrics.tally.write()
    assert value(registry, "queue_seconds_sum") == 0.0


def test_what_comes_right_after_a_write_waits_for_the_next(metrics: Metrics, registry: CollectorRegistry) -> None:
    metrics.tally.classified(3)
    metrics.tally.write_if_due()
    metrics.tally.classified(5)
    metrics.tally.in_flight(7)
    metrics.tally.write()  # as the heartbeat does
    metrics.tally.write()
    assert value(registry, "batches_total") == 2
    assert value(registry, "batch_images_sum") == 8
    assert value(registry, "images_in_flight") == 7


def test_a_process_that_ends_is_counted_by_its_reason(registry: CollectorRegistry) -> None:
    counts = SupervisorMetrics(registry)
    for code in (0, -9, -9, 70):
        counts.count_end(code)
    reasons = {reason: value(registry, "process_restarts_total", reason=reason) for reason in REASONS}
    assert reasons == {"replaced": 1, "killed": 2, "failed": 1}


REASONS = ("replaced", "killed", "failed")


# --- many processes --------------------------------------------------------------------------------------------------


def test_a_thousand_killed_processes_leave_exact_counts_and_no_more_files(tmp_path: Path) -> None:
    """Killed at any instant, also while a file is being made; slots are reused; somebody scrapes meanwhile."""
    command = [sys.executable, str(STORM), "1000", "4", str(tmp_path)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=110).stdout)
    assert report["steps_back"] == []
    assert report["scrapes"] == 200
    # One publication of five images may have been written and not noted, per kill.
    assert report["recorded"] <= report["counted"] <= report["recorded"] + 5 * 1004
    assert report["recorded"] > 0
    assert len(report["files"]) == 4 * 3  # counters, gauges and histograms of each slot


def test_a_file_that_has_no_byte_yet_spoils_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "counter_0.db").touch()
    assert list(SlotsCollector(tmp_path).collect()) == []
