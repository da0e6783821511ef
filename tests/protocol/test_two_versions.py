"""What the worker's newer operations do in any order with the others; and a fleet that is being upgraded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import redis
from hypothesis.stateful import initialize, rule

import earlier_scripts
from imagequeue.contract import QUEUES, encode_job, new_job_id
from imagequeue.errors import ContractError
from imagequeue.scripts import script_text
from imagequeue_worker.jobs import TakenJob
from imagequeue_worker.protocol import Protocol, Retry
from machines import run_machine
from queue_state import LEASE_SECONDS, RESULT_TTL, rows
from test_any_interleaving import QueueMachine, few, workers

EARLIER = ("take", "finish", "heartbeat", "put_back", "reclaim", "settle", "sweep")
RETRIES_MAX = 2


class EarlierProtocol(Protocol):
    """A worker that has not been upgraded: the scripts that it has are those of its version."""

    def __init__(self, connection: redis.Redis, worker: str) -> None:
        super().__init__(connection, worker, QUEUES, lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)
        for name in EARLIER:
            self._scripts[name] = connection.register_script(script_text(name, earlier_scripts.__name__))
        take = self._scripts["take"]
        self._scripts["take"] = lambda keys, arguments: [*take(keys, arguments), []]  # it names no damaged queues


class WorkerMachine(QueueMachine):
    """The model, with the operations that workers of this version have beside the earlier ones."""

    @rule(name=workers, pick=few, part=few)
    def publish_a_part(self, name: str, pick: int, part: int) -> None:
        for job in self.held[name][pick - 1 : pick]:
            with suppress(ContractError):  # its data is damaged
                self._newer(name).publish(job.lease, job.collection, rows(job)[: 4 * part])

    @rule(name=workers, pick=few, part=few)
    def give_a_part_another_try(self, name: str, pick: int, part: int) -> None:
        for job in self.held[name][pick - 1 : pick]:
            with suppress(ContractError):
                retries = [retry_of(job, id_) for id_ in job.ids[:part]]
                self._newer(name).retry(
                    job.lease, job.collection, retries, retries_max=RETRIES_MAX, pause_max_seconds=0.0
                )

    @rule(name=workers, pick=few)
    def an_operator_stops_a_job(self, name: str, pick: int) -> None:
        for job in self.held[name][pick - 1 : pick]:
            self._newer(name).stop(job.lease)

    @rule(name=workers)
    def reconcile(self, name: str) -> None:
        protocol = self._newer(name)
        for collection, ids in protocol.pending():
            assert protocol.reconcile(collection, ids) == [], "what no script has left behind was mended"
        assert protocol.recount() == 0

    def _newer(self, name: str) -> Protocol:
        return self.protocols[name]


class UpgradeMachine(WorkerMachine):
    """w1 has not been upgraded; what it does not know w2 does in its name, as its successor would."""

    @initialize()
    def begin(self) -> None:
        super().begin()
        self.protocols["w1"] = EarlierProtocol(self.connection, "w1")

    def _newer(self, name: str) -> Protocol:
        return self.protocols["w2"]


def retry_of(job: TakenJob, id_: str) -> Retry:
    request = job.request()
    images = tuple(image for image in request.images if image.id == id_)
    data = encode_job(msgspec.structs.replace(request, images=images))
    return Retry(id_, new_job_id(), 0.0, data, b'{"code":"fetch_failed","message":"on demand"}')


@pytest.mark.timeout(600)  # a failing case is made small first
@pytest.mark.parametrize("machine", [WorkerMachine, UpgradeMachine], ids=["one version", "two versions"])
def test_whatever_happens_every_image_gets_one_result(
    connection: redis.Redis, redis_url: str, machine: type[WorkerMachine]
) -> None:
    run_machine(machine, connection, redis_url, max_examples=60)


def test_scripts_of_both_versions_are_at_hand() -> None:
    folder = Path(earlier_scripts.__file__).parent
    for name in EARLIER:
        assert (folder / f"{name}.lua").exists()
        assert script_text(name, earlier_scripts.__name__) != script_text(name, "imagequeue_worker.scripts")
