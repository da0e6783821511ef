"""Hands for tests: one submits chunks by the bare script, the other settles images as workers do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import redis
from click.testing import CliRunner, Result

from imagequeue import contract
from imagequeue.cli import cli
from imagequeue.contract import ClassScore, ErrorCode, Failure, Image, Outcome, Request, Status
from imagequeue.orders import Order
from imagequeue.scripts import script_text
from imagequeue.submitting import arguments_of, keys_of

Settle = Callable[..., None]


def settler(client: redis.Redis) -> Settle:
    """Return `settle(id, status=OK, collection="default", dead=False)`: it publishes a pending image as workers do.

    With `dead` its request is kept as a dead letter.
    """
    script = client.register_script(script_text("settle", "imagequeue_worker.scripts"))

    def settle(id_: str, status: Status = Status.OK, collection: str = "default", dead: bool = False) -> None:
        queue, job = client.hget(contract.pending_key(collection), id_).decode().split("|")
        ok = status is Status.OK
        outcome = Outcome(
            id=id_,
            ref=f"/pictures/{id_}.jpg",
            status=status,
            classes=(ClassScore(281, "n02123045", "tabby, tabby cat", 0.75),) if ok else (),
            error=None if ok else Failure(ErrorCode.NOT_FOUND, "nothing is there"),
        )
        gate = [contract.KEY_PREFIX, contract.RQ_KEY_PREFIX, 3600, "0"]
        request = Request(images=(Image(id_, outcome.ref),), collection=collection)
        image = [id_, status, contract.encode_outcome(outcome), contract.encode_request(request) if dead else ""]
        published = script(keys=[contract.pending_key(collection)], args=[*gate, queue, job, collection, *image])
        assert published == b"1"

    return settle


def submit(
    client: redis.Redis,
    images: Iterable[str | Image],
    *,
    job: str | None = None,
    order: Order | None = None,
    limit: int = 10**9,
) -> list:
    """Call the script as the producer does; a string is an id and a reference."""
    chunk = {image.id: image for image in (i if isinstance(i, Image) else Image(i, i) for i in images)}
    job, order = job or contract.new_job_id(), order or Order()
    script = client.register_script(script_text("submit"))
    return script(keys=keys_of(chunk, job, order), args=[*arguments_of(chunk, job, order, limit), *chunk])


def wait_for_command(monitor: redis.client.Monitor, name: str) -> None:
    """Return when the server runs a command of this name; `monitor` was entered before it was sent."""
    for command in monitor.listen():
        ours = command["db"] == monitor.connection.db  # a server may serve other test processes, too
        if ours and command["command"].upper().startswith(name):
            return


class CommandLine:
    """`imagequeue` with the test's Redis."""

    def __init__(self, redis_url: str) -> None:
        self._environment = {"IMAGEQUEUE_REDIS_URL": redis_url}

    def __call__(self, *arguments: str, typed: bytes | None = None, **environment: str) -> Result:
        return CliRunner().invoke(cli, arguments, input=typed, env=self._environment | environment)
