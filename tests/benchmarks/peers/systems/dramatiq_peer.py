"""dramatiq: Redis as broker and result backend, one thread per process, many messages prefetched."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import dramatiq
from classifier import classifier
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from far_end import WAIT_SECONDS, System, serve, setup


class Load(dramatiq.Middleware):
    """Loads the net before a process takes messages."""

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        classifier()


broker = RedisBroker(url=setup()["redis_url"])
broker.add_middleware(Results(backend=RedisBackend(url=setup()["redis_url"])))
broker.add_middleware(Load())
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, max_retries=0)
def classify(ref: str) -> int:
    """The task."""
    return classifier().best_classes([ref])[0]


class Dramatiq(System):
    def start(self, workers: int) -> None:
        command = [sys.executable, "-m", "dramatiq", "dramatiq_peer", "--processes", str(workers), "--threads", "1"]
        self.run(*command, "--skip-logging", dramatiq_queue_prefetch="64")

    def classify(self, refs: Sequence[str]) -> list[int]:
        group = dramatiq.group(classify.message(ref) for ref in refs).run()
        return list(group.get_results(block=True, timeout=round(WAIT_SECONDS * 1000)))

    def classify_one(self, ref: str) -> int:
        return classify.send(ref).get_result(block=True, timeout=round(WAIT_SECONDS * 1000))


if __name__ == "__main__":
    import dramatiq_peer

    serve(dramatiq_peer.Dramatiq())
