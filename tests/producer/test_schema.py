"""The contract as JSON Schema: the file is what the types say, and it accepts and refuses what workers do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from imagequeue import Image, Producer, Status, contract
from imagequeue.contract import ErrorCode, Request
from imagequeue.errors import ContractError
from imagequeue.schema import contract_schema, schema_text
from producer_hand import CommandLine, Settle
from result_samples import CAT, SKY, failed, ok

FILE = Path(__file__).parents[2] / "producer" / "contract.schema.json"
SCHEMA = contract_schema()


def valid(kind: str, value: Any) -> bool:
    """Whether a value is one of these by the schema."""
    one = {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"], "$schema": SCHEMA["$schema"]}
    return jsonschema.Draft202012Validator(one).is_valid(value)


def test_the_file_is_what_the_types_say() -> None:
    assert FILE.read_text() == schema_text(), "imagequeue schema > producer/contract.schema.json"


def test_the_command_prints_the_file(imagequeue: CommandLine) -> None:
    assert imagequeue("schema").stdout == FILE.read_text()


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(FILE.read_text()))


def test_what_a_producer_puts_into_redis_is_job_data(producer: Producer, connection: redis.Redis) -> None:
    producer.submit_many(["/a.jpg", "https://example.org/b.jpg"], model="m", top_k=3, expires_in=60)
    (job,) = connection.lrange(contract.queue_key("classify"), 0, -1)
    data = json.loads(connection.hget(contract.job_key(job.decode()), "data"))
    assert valid("JobData", data)
    assert valid("Request", data[3]["request"])
    assert not valid("JobData", ["os.system", *data[1:]])


@pytest.mark.parametrize("status", list(Status))
def test_what_the_gate_publishes_is_a_result(
    producer: Producer, connection: redis.Redis, settle: Settle, status: Status
) -> None:
    producer.submit("/a.jpg", id="a")
    settle("a", status)
    result = json.loads(connection.hget(contract.results_key("default"), "a"))
    assert valid("Result", result)
    assert not valid("Result", {name: value for name, value in result.items() if name != "entry"})


@pytest.mark.parametrize("result", [ok("a", CAT), ok("b", SKY), failed("c")], ids=lambda result: result.id)
def test_results_of_every_kind_are_valid(result: contract.Result) -> None:
    assert valid("Result", json.loads(msgspec.json.encode(result)))


def test_every_error_code_is_named() -> None:
    assert SCHEMA["$defs"]["Failure"]["properties"]["code"]["examples"] == list(ErrorCode)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"collection": "with space"},
        {"collection": ""},
        {"top_k": 0},
        {"top_k": 1001},
        {"expires_in": 0},
        {"images": []},
        {"images": [{"id": "a", "ref": "/a"}] * 65},
        {"images": [{"id": "", "ref": "/a"}]},
        {"images": [{"id": "a\nb", "ref": "/a"}]},
        {"images": [{"id": "a", "ref": ""}]},
        {"images": [{"id": "a"}]},
        {"images": [{"id": "a", "ref": "/a", "more": 1}]},
        {"model": 7},
    ],
    ids=str,
)
def test_what_workers_refuse_the_schema_refuses(change: dict[str, Any]) -> None:
    request = {"version": 1, "collection": "default", "images": [{"id": "a", "ref": "/a"}]} | change
    with pytest.raises(ContractError):
        contract.decode_request(json.dumps(request))
    assert not valid("Request", request)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(id_=texts, ref=texts, collection=st.text("aZ9_.-/ ", max_size=130), top_k=st.integers(-1, 1002))
def test_the_schema_accepts_what_workers_accept(id_: str, ref: str, collection: str, top_k: int) -> None:
    request = Request(images=(Image(id_, ref),), collection=collection, top_k=top_k)
    try:
        contract.decode_request(contract.encode_request(request))
        accepted = True
    except ContractError:
        accepted = False
    assert valid("Request", json.loads(msgspec.json.encode(request))) == accepted


def test_scripts_are_printed_as_redis_takes_them(imagequeue: CommandLine, connection: redis.Redis) -> None:
    for script in ("submit", "resubmit", "cancel"):
        text = imagequeue("schema", "--script", script).stdout
        assert connection.script_exists(connection.script_load(text)) == [True]
