"""A worker's hand, for tests: settles pending images through the real gate."""

from __future__ import annotations

from collections.abc import Callable

import redis

from imagequeue import contract
from imagequeue.contract import ClassScore, ErrorCode, Failure, Outcome, Status
from imagequeue.scripts import script_text

Settle = Callable[..., None]


def settler(client: redis.Redis) -> Settle:
    """Return `settle(id, status=OK, collection="default")`: it publishes a pending image as workers do."""
    script = client.register_script(script_text("settle", "imagequeue_worker.scripts"))

    def settle(id_: str, status: Status = Status.OK, collection: str = "default") -> None:
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
        image = [id_, status, contract.encode_outcome(outcome), ""]
        published = script(
            keys=[contract.pending_key(collection)], args=[*gate, queue, job, collection, *image]
        )
        assert published == b"1"

    return settle


def wait_for_command(monitor: redis.client.Monitor, name: str) -> None:
    """Return when the server runs a command of this name; `monitor` was entered before it was sent."""
    for command in monitor.listen():
        ours = command["db"] == monitor.connection.db  # a server may serve other test processes, too
        if ours and command["command"].upper().startswith(name):
            return
