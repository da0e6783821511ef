"""Every operator gives real Caffe2's answers, element by element."""

from pathlib import Path

import pytest

from caffe2.golden import case_files, cases, differing, tensor
from caffe2.golden_counter import record
from imagequeue_worker.caffe2 import available_engines, run_operator
from imagequeue_worker.caffe2.operators import OPERATORS

# What Caffe2 declares and never writes.
UNWRITTEN = "|S55"


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("path", case_files(), ids=lambda path: f"{path.parts[-3]}-{path.parent.name}-{path.stem}")
def test_operator_gives_caffe2s_answers(path: Path, engine: str, record_property):
    count = compared = wrong = 0
    wrong_cases = []
    for op_type, args, inputs, outputs in cases(path):
        results = run_operator(op_type, [tensor(t) for t in inputs], args, engine=engine)
        assert len(results) == len(outputs)
        pairs = [pair for pair in zip(results, outputs, strict=True) if pair[1]["kind"] != UNWRITTEN]
        here = sum(differing(got, wanted) for got, wanted in pairs)
        if here:
            wrong_cases.append((count, here))
        count += 1
        compared += sum(wanted["data"].size for _, wanted in pairs)
        wrong += here
    record(record_property, f"operator cases, {engine}", count, len(wrong_cases))
    record(record_property, f"operator outputs, {engine}", compared, wrong)
    assert wrong_cases == []


def test_every_operator_has_golden_cases():
    assert {path.stem for path in case_files()} == set(OPERATORS)
