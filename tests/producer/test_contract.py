"""The wire: what is written can be read, and what cannot be read is said so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import rq.defaults
from hypothesis import given
from hypothesis import strategies as st
from rq.job import validate_job_id

from imagequeue import contract
from imagequeue.contract import (
    ClassScore,
    Failure,
    Image,
    Model,
    Outcome,
    Request,
    Result,
    StageSeconds,
    Status,
)
from imagequeue.errors import ConfigurationError, ContractError

READERS = [contract.decode_request, contract.decode_job, contract.decode_result]

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
seconds = st.floats(min_value=0, max_value=1e12)
images = st.lists(st.builds(Image, id=texts, ref=texts), min_size=1, max_size=64, unique_by=lambda image: image.id)
requests = st.builds(
    Request,
    images=images.map(tuple),
    collection=st.from_regex(r"[A-Za-z0-9_.-]{1,128}", fullmatch=True),
    model=st.none() | texts,
    top_k=st.integers(1, 1000),
    expires_in=st.none() | st.floats(min_value=0, max_value=1e12, exclude_min=True),
)
outcomes = st.builds(
    Outcome,
    id=texts,
    ref=texts,
    status=st.sampled_from(Status),
    classes=st.lists(
        st.builds(
            ClassScore,
            index=st.integers(0, 999),
            wnid=st.none() | texts,
            label=texts,
            probability=st.floats(0, 1),
        ),
        max_size=5,
    ).map(tuple),
    error=st.none() | st.builds(Failure, code=texts, message=st.text(st.characters(exclude_categories=["Cs"]))),
    model=st.none() | st.builds(Model, name=texts, sha256=texts),
    worker=texts,
    attempt=st.integers(0, 9),
    submitted_at=seconds,
    seconds=st.builds(StageSeconds, queue=seconds, fetch=seconds, decode=seconds, infer=seconds),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(requests)
def test_a_job_carries_its_request_unchanged(request_: Request) -> None:
    assert contract.decode_job(contract.encode_job(request_)) == request_


@given(requests)
def test_a_dead_letter_carries_its_request_unchanged(request_: Request) -> None:
    assert contract.decode_request(contract.encode_request(request_)) == request_


@given(outcomes, st.floats(min_value=0, max_value=1e12))
def test_a_result_is_the_outcome_and_the_gates_stamps(outcome: Outcome, finished_at: float) -> None:
    # Given an outcome to which the gate appended its stamps before the closing brace
    stamps = json.dumps({"entry": "1-0", "job": "iq-0", "finished_at": finished_at}).encode()
    text = contract.encode_outcome(outcome)[:-1] + b"," + stamps[1:]
    # Then a reader sees the outcome and the stamps
    fields = {name: getattr(outcome, name) for name in Outcome.__struct_fields__}
    assert contract.decode_result(text) == Result(**fields, entry="1-0", job="iq-0", finished_at=finished_at)


@pytest.mark.parametrize("read", READERS)
@given(data=st.binary() | values.map(lambda value: json.dumps(value).encode()))
def test_what_is_no_message_is_a_contract_error(read, data: bytes) -> None:
    with pytest.raises(ContractError):
        read(data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b'["a",null,[],{"request":' + b"[" * 100_000])
def test_bottomless_nesting_is_a_contract_error(read, data: bytes) -> None:
    with pytest.raises(ContractError):
        read(data)


@given(values)
def test_an_unknown_field_does_not_disturb_a_reader(value: object) -> None:
    request_ = Request(images=(Image("a", "/a.jpg"),))
    fields = {"of a newer producer": value} | json.loads(contract.encode_request(request_))
    assert contract.decode_request(json.dumps(fields)) == request_


def test_a_trace_travels_and_leaves_no_mark_where_there_is_none() -> None:
    plain = Request(images=(Image("a", "/a.jpg"),))
    traced = Request(images=plain.images, trace="00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
    assert b"trace" not in contract.encode_request(plain)
    assert contract.decode_request(contract.encode_request(traced)) == traced
    assert contract.decode_request(contract.encode_request(plain)) == plain


def test_another_version_has_its_own_code() -> None:
    with pytest.raises(ContractError) as caught:
        contract.decode_request(b'{"version":2,"pictures":[]}')
    assert caught.value.code == "unsupported_version"


def test_another_function_is_forbidden() -> None:
    with pytest.raises(ContractError) as caught:
        contract.decode_job(b'["os.system",null,[],{"request":{}}]')
    assert caught.value.code == "forbidden"


@pytest.mark.parametrize("collection", ["", "a:b", "a b", "a\n", "x" * 129, "ü", "{a}"])
def test_a_collection_that_keys_cannot_carry_is_refused(collection: str) -> None:
    with pytest.raises(ContractError):
        contract.check_collection(collection)


@pytest.mark.parametrize("id_", ["", "a\nb", "\x00", "\x7f", "x" * 513, "ü" * 257])
def test_an_id_that_a_job_cannot_list_is_refused(id_: str) -> None:
    with pytest.raises(ContractError):
        contract.check_image(Image(id_, "/a.jpg"))


@pytest.mark.parametrize("ref", ["", "x" * (contract.REF_BYTES_MAX + 1)])
def test_a_reference_that_is_empty_or_too_long_is_refused(ref: str) -> None:
    with pytest.raises(ContractError):
        contract.check_image(Image("a", ref))


def test_an_id_may_stand_in_a_request_once() -> None:
    with pytest.raises(ContractError, match="twice"):
        contract.encode_job(Request(images=(Image("a", "/a.jpg"), Image("a", "/b.jpg"))))


def test_text_that_is_not_unicode_is_a_contract_error() -> None:
    with pytest.raises(ContractError, match="Unicode"):
        contract.encode_job(Request(images=(Image("a", "/\udcff.jpg"),)))


@given(texts)
def test_the_default_id_can_be_a_field_and_a_job_line(ref: str) -> None:
    assert contract.check_image(Image(contract.image_id(ref), ref))


def test_rqs_prefix_is_the_one_that_rq_uses(program_environment: dict[str, str]) -> None:
    script = "import rq.defaults, imagequeue.contract as c; print(rq.defaults.RQ_KEY_PREFIX == c.RQ_KEY_PREFIX)"
    for prefix in ({}, {"RQ_KEY_PREFIX": "{rq}"}):
        answer = subprocess.run(
            [sys.executable, "-c", script], env=program_environment | prefix, capture_output=True, check=True
        )
        assert answer.stdout == b"True\n", prefix
    assert rq.defaults.RQ_KEY_PREFIX == contract.RQ_KEY_PREFIX


def test_a_prefix_that_keys_cannot_carry_is_refused(program_environment: dict[str, str]) -> None:
    environment = program_environment | {"IMAGEQUEUE_KEY_PREFIX": "a b"}
    answer = subprocess.run(
        [sys.executable, "-c", "import imagequeue.contract"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert ConfigurationError.__name__.encode() in answer.stderr


def test_priorities_name_the_queues_in_their_order() -> None:
    assert tuple(priority.queue for priority in contract.Priority) == contract.QUEUES


def test_job_ids_are_what_rq_allows() -> None:
    validate_job_id(contract.new_job_id())
