"""Durable acceptance: what counts as evidence that Redis has synced its disk, and waiting for it.

A server may claim that it syncs and not do so: Valkey 9.1.2 and Redis 7.4.1 acknowledge `WAITAOF` at once under
`appendfsync everysec`, before any fsync. So two kinds of evidence are accepted: `appendfsync always`, where the answer
to a write follows its fsync; and `WAITAOF` on a server that was seen waiting for its disk.
"""

from __future__ import annotations

import secrets
import time
from enum import StrEnum
from typing import Any

import redis

from imagequeue import contract
from imagequeue.bridge import answered
from imagequeue.errors import DurabilityUnavailable

PROBE_ROUNDS = 20
PROBE_WAIT_SECONDS = 0.4  # who syncs each second makes most of one wait; who does not answers within 0.2 s
PROBE_WAITS = 3  # in a row: a single pause of a busy machine is no evidence
PROBE_KEY_SECONDS = 60
SLICE_MS = 2_000  # per WAIT: below every socket timeout


class Evidence(StrEnum):
    """Why an answer means that the disk is synced."""

    ALWAYS = "appendfsync always"
    WAITAOF = "WAITAOF"


class Durability:
    """Knows what evidence servers give; a probe's verdict holds for as long as the server runs. Thread-safe.

    Who asks while a probe runs makes one of his own.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, bool] = {}

    async def evidence(self, client: Any) -> Evidence:  # noqa: ANN401  redis-py's, answering bytes
        """The evidence that the server of this connection gives; raise DurabilityUnavailable when it gives none."""
        run_id = (await answered(client.info("server")))["run_id"]
        try:
            settings = await answered(client.config_get("append*"))
        except redis.ResponseError:  # a producer's role may not read the configuration
            settings = {}
        if settings.get("appendonly") == "no":
            raise DurabilityUnavailable(_refusal("it keeps no append-only file"))
        if settings.get("appendfsync") == "always":
            return Evidence.ALWAYS
        if settings.get("appendfsync") == "no":
            raise DurabilityUnavailable(_refusal("it leaves syncing to the kernel (appendfsync no)"))
        if run_id not in self._verdicts:
            self._verdicts[run_id] = await probe(client)
        if self._verdicts[run_id]:
            return Evidence.WAITAOF
        why = "its WAITAOF does not wait for the disk"
        if not settings:
            why += ", and this user may not run CONFIG GET to see `appendfsync always` (grant +config|get)"
        raise DurabilityUnavailable(_refusal(why))


async def probe(client: Any) -> bool:  # noqa: ANN401  redis-py's
    """Whether WAITAOF waits for the disk, as it must under `appendfsync everysec`: for most of a second each time.

    Each round is compared with one without WAITAOF, so that a slow network is no evidence.
    """
    key = contract.blob_key(f"probe-{secrets.token_hex(8)}")  # what every producer may write
    waits = 0
    for _ in range(PROBE_ROUNDS):
        try:
            plain, _ = await _timed(client, key, "PING")
            synced, answer = await _timed(client, key, "WAITAOF", 1, 0, SLICE_MS)
        except redis.OutOfMemoryError:
            raise
        except redis.ResponseError:  # Redis before 7.2, a role that may not, or no append-only file
            return False
        if answer[0] < 1:
            return False
        waits = waits + 1 if synced - plain > PROBE_WAIT_SECONDS else 0
        if waits == PROBE_WAITS:
            return True
    return False


async def confirm(client: Any, evidence: Evidence, collection: str, replicas: int, seconds: float) -> None:  # noqa: ANN401
    """Return when all that this connection has seen is synced, and on `replicas` replicas.

    Writes once, since Redis waits for what the connection itself wrote: the chunk may have been accepted by a call
    whose answer was lost, or by somebody else. Raises DurabilityUnavailable when it takes longer than `seconds`.
    """
    await answered(client.hincrby(contract.totals_key(collection), "accepted", 0))
    if evidence is Evidence.ALWAYS and replicas == 0:
        return
    deadline = time.monotonic() + seconds
    while True:
        local, copies = await _wait(client, evidence, replicas)
        if local >= 1 and copies >= replicas:
            return
        if time.monotonic() > deadline:
            raise DurabilityUnavailable(
                f"the images are accepted, but after {seconds:g} s only {copies} of {replicas} replicas confirmed them"
                if local
                else f"the images are accepted, but not synced to disk after {seconds:g} s; see the server's disk"
            )


async def check_replicas(client: Any, replicas: int) -> None:  # noqa: ANN401  redis-py's
    """Raise DurabilityUnavailable before anything is accepted if there are fewer replicas than asked for."""
    info = await answered(client.info("replication")) if replicas else {}
    connected = int(info.get("connected_slaves", 0))
    if connected < replicas:
        raise DurabilityUnavailable(
            f"{replicas} replicas are to confirm, and Redis has {connected}; connect replicas, or ask for fewer"
        )


async def _wait(client: Any, evidence: Evidence, replicas: int) -> tuple[int, int]:  # noqa: ANN401
    """(1 if synced here, replicas that have it): on their disks with WAITAOF, in their memory with WAIT."""
    if evidence is Evidence.ALWAYS:
        return 1, int(await answered(client.execute_command("WAIT", replicas, SLICE_MS)))
    local, copies = await answered(client.execute_command("WAITAOF", 1, replicas, SLICE_MS))
    return int(local), int(copies)


async def _timed(client: Any, key: str, *command: Any) -> tuple[float, Any]:  # noqa: ANN401
    """Write, then run the command, as confirm() does; the seconds that both took, and the answer."""
    begun = time.monotonic()
    await answered(client.set(key, b"", ex=PROBE_KEY_SECONDS))
    answer = await answered(client.execute_command(*command))
    return time.monotonic() - begun, answer


def _refusal(why: str) -> str:
    return (
        f"Redis gives no evidence of having synced what it accepts: {why}; set `appendfsync always` "
        "(`imagequeue-worker redis --durable`), or submit without durable"
    )
