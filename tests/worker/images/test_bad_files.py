"""Hundreds of files of every odd kind: each ends in exactly one result, of the kind that is documented for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_files import BOMBS, TOO_LARGE, corpus

from imagequeue.contract import Image, Request, encode_job
from imagequeue_worker.images import DEFAULT_LIMITS
from imagequeue_worker.jobs import Lease, TakenJob
from imagequeue_worker.loading import Threads
from imagequeue_worker.nets import load_nets
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.settings import NetChoice

FILES = list(corpus())
PER_JOB = 64

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def job(number, ids):
    request = Request(images=tuple(Image(id_, id_) for id_ in ids))
    return TakenJob(
        Lease("classify", f"iq-{number}", "iqx"), attempt=1, losses=0, collection="default", submitted_at=0.0,
        taken_at=0.0, forbidden=False, data=encode_job(request), ids=tuple(ids),
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, net_folder):
    """All of them through the pipeline, with the limits that workers have."""
    root = tmp_path_factory.mktemp("corpus")
    for file in FILES:
        (root / file.name).write_bytes(file.data)
    pipeline = Pipeline(
        load_nets([NetChoice(net_folder)], "portable"), References(ImageSources(image_roots=(root,))), DEFAULT_LIMITS,
        threads=Threads(),
    )  # fmt: skip
    names = [file.name for file in FILES]
    jobs = [job(start, names[start : start + PER_JOB]) for start in range(0, len(names), PER_JOB)]
    finished = pipeline.classify(pipeline.prepare(jobs))
    pipeline.close()
    return [outcome for one in finished for outcome in one.outcomes]


def test_there_are_two_hundred_and_their_names_differ():
    assert len({file.name for file in FILES}) == len(FILES) >= 200


def test_each_has_exactly_one_result(outcomes):
    assert [outcome.id for outcome in outcomes] == [file.name for file in FILES]


@pytest.mark.parametrize("number", range(len(FILES)), ids=[file.name for file in FILES])
def test_a_result_is_of_the_documented_kind(outcomes, number):
    outcome, file = outcomes[number], FILES[number]
    assert (outcome.error.code if outcome.error else "ok") in file.outcomes, outcome.error
    assert len(outcome.classes) == (0 if outcome.error else 5)
    assert outcome.error is None or outcome.error.message


MEASURE = """
import re, sys, time
from pathlib import Path
from imagequeue_worker.errors import ImageError
from imagequeue_worker.images import preprocess

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

for path in sorted(Path(sys.argv[1]).iterdir()):
    data = path.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started = kilobytes("VmRSS"), time.perf_counter()
    try:
        preprocess(data)
        code = "ok"
    except ImageError as error:
        code = error.code.value
    print(path.name, code, kilobytes("VmHWM") - before, (time.perf_counter() - started) * 1000)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists() or os.geteuid(), reason="needs Linux, and its root")
def test_bombs_are_refused_from_their_headers_within_32_mebibytes(tmp_path):
    for name, data in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in measured.splitlines()]
    assert len(rows) == len(BOMBS)
    assert {name: int(peak) for name, _, peak, _ in rows if int(peak) > 32 * 1024} == {}
    assert {name for name, code, _, _ in rows if code == TOO_LARGE} >= {
        name for name in BOMBS if not name.endswith((".webp", ".avif"))
    }
    print(measured)
