"""Where a storm takes place: a server of its own, a fleet of workers, a feeder, and the audit at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from chaos.audit import COLLECTION, audit
from chaos.feeder import Errand
from chaos.fleet import Fleet, program_environment
from chaos.ledger import Ledger, Options, versions
from chaos.notebook import read_notebook
from chaos.world import Answer, Truth, World, make_world
from imagequeue.connection import connect
from imagequeue.contract import QUEUES, RQ_KEY_PREFIX, pending_key, totals_key
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port

STANDSTILL_SECONDS = 120.0  # without any result: nothing will come any more


class Arena:
    """One storm's server, workers and producer; a context manager.

    `attempts_max` is how often an image may have been taken; `truth` adds to what the pictures' results must be.
    """

    def __init__(
        self,
        options: Options,
        storm: str,
        *,
        lease_seconds: float = 1.0,
        server_options: Mapping[str, str] | None = None,
        durable: bool = False,
        environment: Mapping[str, str] | None = None,
        truth: Truth | None = None,
        data_folder: Path | None = None,
    ) -> None:
        self.options = options
        self.storm = storm
        self.world: World = make_world(options.folder / "world")
        self.truth: dict[str, Answer | str] = {**self.world.truth, **(truth or {})}
        self.folder = options.folder / f"{storm}-{time.monotonic_ns()}"
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.server = EmbeddedRedis(
            data_folder or self.folder / "redis", port=self.port, durable=durable, options=server_options or {}
        )
        self.notebook = self.folder / "notebook"
        self.faults: dict[str, int] = {}
        self._lease_seconds = lease_seconds
        self._environment = environment or {}
        self._stack = ExitStack()
        self._feeders: list[subprocess.Popen[bytes]] = []
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.server)
            # Any, since redis-py's stubs cannot know that answers come undecoded, as bytes.
            self.connection: Any = stack.enter_context(connect(self.server.url, resend=True))
            self.fleet = stack.enter_context(
                Fleet(self.world, self.server.url, self.connection, self.folder, self._lease_seconds, self._environment)
            )
            stack.callback(self._end_feeders)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- the producer -------------------------------------------------------------------------------------------

    def feed(self, count: int, *, url: str | None = None, **more: Any) -> subprocess.Popen[bytes]:
        """Start a feeder of `count` images; see `Errand` for what else it can be told."""
        errand = Errand(
            url=url or self.server.url,
            collection=COLLECTION,
            notebook=str(self.notebook),
            refs=more.pop("refs", self.world.refs),
            count=count,
            seed=self.options.seed,
            **more,
        )
        with (self.folder / "feeder.log").open("ab") as log:
            feeder = subprocess.Popen(
                [sys.executable, "-m", "chaos.feeder", msgspec.json.encode(errand).decode()],
                stderr=log,
                env=program_environment(),
            )
        self._feeders.append(feeder)
        return feeder

    def fed(self) -> bool:
        """Whether every feeder has ended; raises when one has failed."""
        for feeder in self._feeders:
            if feeder.poll() not in (None, 0, -9):
                raise AssertionError(f"the feeder failed: {(self.folder / 'feeder.log').read_text()[-2000:]}")
        return all(feeder.poll() is not None for feeder in self._feeders)

    def slow_refs(self, seconds: float) -> list[str]:
        """References of the pictures that each take so long to fetch; from now on the truth knows them."""
        slow = self.world.slow(seconds)
        self.truth.update(slow)
        return list(slow)

    def feed_without_end(self, *, depth_limit: int = 600, **more: Any) -> None:
        """Keep the queue full until `stop_feeding`."""
        self.feed(10**9, depth_limit=depth_limit, **more)

    def stop_feeding(self) -> None:
        """Kill the feeders; what they had noted is what was accepted."""
        self._end_feeders()

    def _end_feeders(self) -> None:
        for feeder in self._feeders:
            feeder.kill()
            feeder.wait()

    # --- waiting ------------------------------------------------------------------------------------------------

    def count(self, fault: str, by: int = 1) -> None:
        """Enter a fault that was done."""
        self.faults[fault] = self.faults.get(fault, 0) + by

    def done(self) -> int:
        """Images with a result."""
        return sum(int(count or 0) for count in self.connection.hmget(totals_key(COLLECTION), "ok", "error"))

    def drained(self) -> bool:
        """Whether all is fed, nothing is pending and nothing is leased."""
        if not self.fed() or self.connection.hlen(pending_key(COLLECTION)):
            return False
        return not any(self.connection.zcard(f"{RQ_KEY_PREFIX}:wip:{queue}") for queue in QUEUES)

    def until(self, true: Callable[[], object], what: str) -> None:
        """Return when it is true; fail when no result has come for two minutes."""
        done, since = self.done(), time.monotonic()
        while not true():
            if (now_done := self.done()) != done:
                done, since = now_done, time.monotonic()
            if time.monotonic() - since > STANDSTILL_SECONDS:
                raise AssertionError(f"{self.storm}: waited in vain for {what}; {done} images are done; {self.folder}")
            time.sleep(0.01)

    def until_done(self, images: int) -> None:
        """Return when so many images have a result, or all have that there are."""
        self.until(lambda: self.done() >= images or self.drained(), f"{images} results")

    def seconds_until_next_result(self) -> float:
        """Wait for one more result; how long it took."""
        began, done = time.monotonic(), self.done()
        self.until(lambda: self.done() > done, "the next result")
        return time.monotonic() - began

    def seconds_until_obedient(self) -> float:
        """Wait until every worker hears RQ's commands; how long it took."""
        began = time.monotonic()
        channels = [f"{RQ_KEY_PREFIX}:pubsub:{name}" for name in self.fleet.ready().values()]
        self.until(lambda: all(hearers for _, hearers in self.connection.pubsub_numsub(*channels)), "obedience")
        return time.monotonic() - began

    # --- the end ------------------------------------------------------------------------------------------------

    def close_books(
        self,
        *,
        workers: int,
        attempts_max: int,
        notes: list[str] | None = None,
        forgiven: Collection[str] = (),
        figures: dict[str, int] | None = None,
        **more: Any,
    ) -> Ledger:
        """Wait for the drain, stop the workers and audit. What never drains is found lost by the audit.

        `forgiven` are acknowledged images that a server without durability took with it: a figure, and no loss.
        """
        notes = list(notes or [])
        try:
            self.until(self.drained, "the drain")
        except AssertionError as error:
            notes.append(str(error))
        self.fleet.stop()
        noted = {id_: ref for id_, ref in read_notebook(self.notebook).items() if id_ not in forgiven}
        findings = audit(self.connection, noted, self.truth, attempts_max=attempts_max)
        gone = {"gone_with_the_servers_memory": len(forgiven)} if forgiven else {}
        return Ledger(
            storm=self.storm,
            scale=self.options.scale,
            seed=self.options.seed,
            workers=workers,
            faults=self.faults,
            findings=findings,
            seconds=round(time.monotonic() - self._began, 1),
            versions=versions(self.connection),
            notes=notes,
            figures=(figures or {}) | gone,
            **more,
        )
