"""RQ: `SimpleWorker`, or `Worker`, which forks for each job; a job per image, or per chunk of images."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import redis
from classifier import classifier
from far_end import WAIT_SECONDS, System, serve, setup, until
from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.results import Result

WORKERS = {"simple": SimpleWorker, "fork": Worker}


def classify(refs: list[str]) -> list[int]:
    """The job."""
    return classifier().best_classes(refs)


class Rq(System):
    def __init__(self) -> None:
        super().__init__()
        self.connection = redis.Redis.from_url(setup()["redis_url"])
        self.queue = Queue("benchmark", connection=self.connection)

    def start(self, workers: int) -> None:
        for _ in range(workers):
            self.run(sys.executable, "-c", "import rq_peer; rq_peer.work()")

    def classify(self, refs: Sequence[str]) -> list[int]:
        chunk = setup()["chunk"]
        finished, failed = self.queue.finished_job_registry.key, self.queue.failed_job_registry.key
        before = self.connection.zcard(finished)
        jobs = self.queue.enqueue_many(
            [Queue.prepare_data("rq_peer.classify", [list(refs[at : at + chunk])]) for at in range(0, len(refs), chunk)]
        )
        until(lambda: self.connection.zcard(finished) >= before + len(jobs) or self.connection.zcard(failed), self)
        return [best for job in self._results(jobs) for best in job]

    def _results(self, jobs: list[Job]) -> list[list[int]]:
        """What the jobs returned, in one round trip: `return_value` takes one for each."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.xrevrange(Result.get_key(job.id), count=1)
            found = pipeline.execute()
        results = []
        for job, (entry,) in zip(jobs, found, strict=True):
            result = Result.restore(job.id, entry[0].decode(), entry[1], self.connection)
            if result.type is not Result.Type.SUCCESSFUL:
                raise RuntimeError(result.exc_string)
            results.append(result.return_value)
        return results

    def classify_one(self, ref: str) -> int:
        result = self.queue.enqueue("rq_peer.classify", [ref]).latest_result(timeout=int(WAIT_SECONDS))
        return result.return_value[0]


def work() -> None:
    """Be a worker; the net is loaded before the first job, and before any fork."""
    classifier()
    connection = redis.Redis.from_url(setup()["redis_url"])
    worker = WORKERS[setup()["worker"]]([Queue("benchmark", connection=connection)], connection=connection)
    worker.log_job_description = worker.log_result_lifespan = False
    worker.work(logging_level="ERROR")


if __name__ == "__main__":
    serve(Rq())
