"""TakenJob.request(): what a worker reads out of a job that anybody may have written."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest

from imagequeue.contract import TASK, Image, Request, encode_job
from imagequeue.errors import ContractError
from imagequeue_worker.jobs import Lease, TakenJob

REQUEST = Request(images=(Image("a", "/a.jpg"), Image("b", "/b.jpg")))


def taken(
    data: bytes, *, ids: tuple[str, ...] = ("a", "b"), collection: str = "default", forbidden: bool = False
) -> TakenJob:
    return TakenJob(
        lease=Lease("classify", "iq-1", "iq1n1"),
        attempt=1,
        losses=0,
        collection=collection,
        submitted_at=1.0,
        taken_at=2.0,
        forbidden=forbidden,
        data=data,
        ids=ids,
    )


def call(*parts: Any) -> bytes:
    return json.dumps(parts).encode()


def why(job: TakenJob) -> str:
    """The code with which its request is refused."""
    with pytest.raises(ContractError) as caught:
        job.request()
    return caught.value.code


def test_plain_data_is_read() -> None:
    assert taken(encode_job(REQUEST)).request() == REQUEST


def test_data_that_rq_compressed_is_read() -> None:
    assert taken(zlib.compress(encode_job(REQUEST))).request() == REQUEST


def test_a_job_may_own_fewer_images_than_it_was_sent_with() -> None:
    assert taken(encode_job(REQUEST), ids=("b",)).request() == REQUEST


def test_a_job_may_own_none() -> None:
    assert taken(encode_job(REQUEST), ids=()).request() == REQUEST


def test_an_image_that_the_request_lacks_is_named() -> None:
    with pytest.raises(ContractError, match="'c'"):
        taken(encode_job(REQUEST), ids=("a", "c")).request()


def test_a_request_that_lacks_an_image_is_malformed() -> None:
    assert why(taken(encode_job(REQUEST), ids=("a", "c"))) == "malformed_request"


def test_callbacks_and_webhooks_are_forbidden() -> None:
    assert why(taken(encode_job(REQUEST), forbidden=True)) == "forbidden"


@pytest.mark.parametrize("function", ["os.system", "imagequeue_worker.tasks", TASK + "2", "", TASK.upper()])
def test_foreign_functions_are_forbidden(function: str) -> None:
    assert why(taken(call(function, None, [], {"request": {}}))) == "forbidden"


def test_a_job_that_was_not_accepted_by_us_is_malformed() -> None:
    assert why(taken(encode_job(REQUEST), collection="", ids=())) == "malformed_request"


def test_a_request_for_another_collection_is_malformed() -> None:
    assert why(taken(encode_job(REQUEST), collection="elsewhere")) == "malformed_request"


def test_a_request_of_another_version_is_unsupported() -> None:
    data = call(TASK, None, [], {"request": {"version": 2, "pictures": []}})
    assert why(taken(data)) == "unsupported_version"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"{}",
        b"null",
        b" [1]",
        b"\x80\x04K\x01.",
        b"\xff\xfe",
        b'["\xff", null, [], {}]',
        b"[" * 100_000,
        call(TASK, "instance", [], {"request": {}}),
        call(TASK, None, [1], {"request": {}}),
        call(TASK, None, [], {}),
        call(TASK, None, [], {"request": {}, "more": 1}),
        call(TASK, None, [], {"request": None}),
        call(TASK, None, [], {"request": {"images": []}}),
        call(TASK, None, [], {"request": {"images": [{"id": "a", "ref": "/a"}] * 2}}),
        call(TASK, None, [], {"request": {"images": [{"id": str(n), "ref": "/"} for n in range(65)]}}),
        call(TASK, None, [], {"request": {"images": [{"id": "a\nb", "ref": "/a"}]}}),
        zlib.compress(b"[]"),
        zlib.compress(encode_job(REQUEST))[:-10],
        zlib.compress(zlib.compress(encode_job(REQUEST))),
    ],
    ids=lambda data: repr(data[:30]),
)
def test_data_that_makes_no_sense_is_malformed(data: bytes) -> None:
    assert why(taken(data)) == "malformed_request"


def test_a_bomb_is_malformed() -> None:
    assert why(taken(bomb())) == "malformed_request"


def test_a_bomb_is_inflated_no_further_than_the_largest_request() -> None:
    job = taken(bomb())
    tracemalloc.start()
    try:
        why(job)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20


def bomb() -> bytes:
    """256 MiB of blanks in a megabyte."""
    deflater = zlib.compressobj(1)
    blanks = b" " * (1 << 20)
    return b"".join(deflater.compress(blanks) for _ in range(256)) + deflater.flush()
