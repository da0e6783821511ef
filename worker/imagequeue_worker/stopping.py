"""RQ's `stop-job` and `stop-execution`: an operator ends a job that a worker holds."""

from __future__ import annotations

import redis
import structlog

from imagequeue_worker.heartbeat import Heartbeat
from imagequeue_worker.jobs import Lease
from imagequeue_worker.protocol import Protocol

log = structlog.get_logger("imagequeue_worker.stopping")


class Stopping:
    """Ends jobs in Redis; whoever is classifying them finds out when it publishes. Used by the listener's thread."""

    def __init__(self, protocol: Protocol, heartbeat: Heartbeat) -> None:
        self._protocol = protocol
        self._heartbeat = heartbeat

    def stop(self, *, job: str = "", execution: str = "") -> None:
        """Stop the job, or the one with this execution, if it is held and has not been classified yet."""
        leases = [lease for lease in self._heartbeat.held() if lease.job == job or lease.execution == execution]
        for lease in leases:
            self._stop(lease)
        if not leases:
            log.warning("a job is to be stopped that this worker does not hold; ignored", job=job, execution=execution)

    def _stop(self, lease: Lease) -> None:
        try:
            images = self._protocol.stop(lease)
        except redis.RedisError as error:
            # The command was sent once and heard once: who sent it sees that the job goes on.
            self._protocol.disconnect()
            log.error("a job could not be stopped", job=lease.job, error=str(error))
            return
        if images is not None:
            self._heartbeat.stopped(lease)
            log.warning("stopped a job", queue=lease.queue, job=lease.job, images=images)
