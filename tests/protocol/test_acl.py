"""What each role of deploy/redis/users.acl may do, and what it may not, on a live server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from prometheus_client import CollectorRegistry
from redis.exceptions import NoPermissionError

import imagequeue
import imagequeue_worker
from imagequeue import DurabilityUnavailable, Image, Producer, RedisRefused, Role, contract
from imagequeue.connection import connect
from imagequeue.contract import QUEUES, ErrorCode
from imagequeue.link import Link
from imagequeue.roles import denied, queue_and_discard
from imagequeue.scripts import script_text
from imagequeue_worker.backlog import read_backlog
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.exporter_metrics import ExporterCollector
from imagequeue_worker.protocol import Protocol, Retry
from ports import free_port
from queue_state import LEASE_SECONDS, RESULT_TTL, answer, answer_errors, drain, end_leases, rows, submit

ACL = Path(__file__).parents[2] / "deploy" / "redis" / "users.acl"
ROLES = [str(role) for role in Role]
PRODUCERS, OPERATORS, WORKERS = {Role.PRODUCER, Role.OPERATOR}, {Role.OPERATOR}, {Role.WORKER}
READERS = {Role.OPERATOR, Role.EXPORTER}
UNUSED = {Role.PRODUCER: {"LREM", "HVALS"}, Role.OPERATOR: {"ZADD"}}  # in parts whose functions these do not call
SHARED = {"settle", "recount"}  # of the worker's scripts: they touch only what an operator may change, too
PASSWORD = "secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    folder = tmp_path_factory.mktemp("acl")
    file = folder / "users.acl"
    file.write_text(ACL.read_text().replace("resetpass", f">{PASSWORD}"))
    # One that syncs always: what a producer may see of that is tried, too.
    with EmbeddedRedis(folder / "r", port=free_port(), durable=True, options={"aclfile": str(file)}) as ours:
        yield ours


@pytest.fixture
def admin(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with connect(server.url, resend=False) as client:
        client.flushdb()
        client.script_flush()
        yield client


def url_of(server: EmbeddedRedis, role: str) -> str:
    return server.url.replace("redis://", f"redis://imagequeue-{role}:{PASSWORD}@")


@pytest.fixture
def someone(server: EmbeddedRedis, admin: redis.Redis) -> Iterator[Callable[[str], redis.Redis]]:
    """A client with a role."""
    clients: list[redis.Redis] = []

    def log_in(role: str) -> redis.Redis:
        clients.append(connect(url_of(server, role), resend=False))
        return clients[-1]

    yield log_in
    for client in clients:
        client.close()


# --- what there is to do ------------------------------------------------------------------------------------


class Stage:
    """A queue with an image in every state, set up by somebody who may do everything."""

    def __init__(self, server: EmbeddedRedis, admin: redis.Redis) -> None:
        self.admin = admin
        self.boss = Producer(server.url)
        self.worker = protocol(admin)
        submit(self.boss, "done")
        drain(self.worker)
        submit(self.boss, "dead")
        self.worker.finish([answer_errors(job, ErrorCode.CORRUPT) for job in self.worker.take(1).jobs])
        submit(self.boss, "held")
        (self.held,) = self.worker.take(1).jobs
        submit(self.boss, "waiting")


@pytest.fixture
def stage(server: EmbeddedRedis, admin: redis.Redis) -> Iterator[Stage]:
    ours = Stage(server, admin)
    yield ours
    ours.boss.close()


def protocol(client: redis.Redis) -> Protocol:
    return Protocol(client, "w1", QUEUES, lease_seconds=LEASE_SECONDS, result_ttl=RESULT_TTL)


def submit_a_blob(p: Producer) -> None:
    p.submit(p.upload(b"bytes"), expires_in=9)


def read_everything(p: Producer) -> None:
    list(p.results())
    p.wait(["done"], timeout=60)
    p.status()
    p.progress()


BY_PRODUCER: dict[str, tuple[set[Role], Callable[[Producer], object]]] = {
    "submit": (PRODUCERS, lambda p: p.submit("/new")),
    "submit a blob": (PRODUCERS, submit_a_blob),
    "read": (PRODUCERS, read_everything),
    "resubmit": (OPERATORS, lambda p: p.submit("/x", id="done", resubmit=True)),
    "cancel": (OPERATORS, lambda p: p.cancel(["waiting", "held"])),
    "cancel a job": (OPERATORS, lambda p: p.cancel_job(p.submit("/new").job or "")),
    "cancel a collection": (OPERATORS, lambda p: p.cancel_collection("default")),
    "dead letters": (READERS, lambda p: list(p.dead_letters())),
    "requeue": (OPERATORS, lambda p: p.requeue()),
    "discard": (OPERATORS, lambda p: p.discard()),
    "drop": (OPERATORS, lambda p: p.drop("holidays")),
    "forget": (OPERATORS, lambda p: p.forget(list(p.results()), "1-1")),
    "pause": (OPERATORS, lambda p: p.pause("classify")),
    "resume": (OPERATORS, lambda p: p.resume("classify")),
    "submit durably": (OPERATORS, lambda p: p.submit("/new", durable=True)),
}


def retry_the_held(protocol: Protocol, stage: Stage) -> None:
    row = Retry("held", contract.new_job_id(), 0.0, stage.held.data, b"{}")
    protocol.retry(stage.held.lease, "default", [row], retries_max=3, pause_max_seconds=1.0)


def reclaim_the_held(protocol: Protocol, stage: Stage) -> None:
    end_leases(stage.admin, stage.held.lease)
    protocol.reclaim(losses_max=10)


def lose_the_held(protocol: Protocol, stage: Stage) -> None:
    end_leases(stage.admin, stage.held.lease)
    protocol.reclaim(losses_max=1)


BY_WORKER: dict[str, Callable[[Protocol, Stage], object]] = {
    "take": lambda w, _: w.take(1),
    "heartbeat": lambda w, s: w.heartbeat([s.held.lease], worker_ttl=60, rate=1.0),
    "finish": lambda w, s: w.finish([answer(s.held)]),
    "publish": lambda w, s: w.publish(s.held.lease, "default", rows(s.held)),
    "retry": retry_the_held,
    "stop": lambda w, s: w.stop(s.held.lease),
    "put_back": lambda w, s: w.put_back([s.held.lease]),
    "reclaim": reclaim_the_held,
    "reclaim as lost": lose_the_held,
    "settle": lambda w, s: w.settle("classify", s.held.lease.job, "default", rows(s.held)),
    "reconcile": lambda w, _: w.reconcile("default", ["held", "waiting"]),
    "recount": lambda w, _: w.recount(),
    "sweep": lambda w, _: w.sweep(),
}

TRIED = {
    "submit", "resubmit", "cancel", "requeue", "discard", "drop", "forget", "backlog",
    *(name for name in BY_WORKER if " " not in name),
}  # fmt: skip


def scripts(package: object) -> dict[str, str]:
    """The scripts that are called, by name: not the parts that stand in front of others."""
    folder = Path(package.__file__ or "").parent / "scripts"  # type: ignore[attr-defined]
    texts = {path.stem: path.read_text() for path in folder.glob("*.lua")}
    return {name: text for name, text in texts.items() if "\n-- Returns " in text}


# --- what each role may -------------------------------------------------------------------------------------


def test_every_script_is_tried_by_a_role() -> None:
    assert scripts(imagequeue).keys() | scripts(imagequeue_worker).keys() == TRIED


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", BY_PRODUCER)
def test_producing_and_operating(server: EmbeddedRedis, stage: Stage, role: str, what: str) -> None:
    allowed, act = BY_PRODUCER[what]
    with Producer(url_of(server, role)) as producer:
        if role in allowed:
            act(producer)
        elif role != Role.WORKER:  # it may do nearly all of it, and is not meant to
            with pytest.raises((RedisRefused, DurabilityUnavailable)):
                act(producer)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", BY_WORKER)
def test_working(stage: Stage, someone: Callable[[str], redis.Redis], role: str, what: str) -> None:
    hand = protocol(someone(role))
    if role in WORKERS:
        BY_WORKER[what](hand, stage)
    elif role != Role.OPERATOR or what not in SHARED:
        with pytest.raises(redis.ResponseError, match=r"(?i)noperm|permission|ACL|can.t"):
            BY_WORKER[what](hand, stage)


@pytest.mark.parametrize("role", [Role.EXPORTER, Role.WORKER])
def test_exporting(stage: Stage, someone: Callable[[str], redis.Redis], role: str) -> None:
    assert read_backlog(someone(role), QUEUES).queues[1].images_waiting == 2
    registry = CollectorRegistry()
    registry.register(ExporterCollector(someone(role), collections_max=10))
    assert registry.get_sample_value("imagequeue_redis_up") == 1
    assert registry.get_sample_value("rq_jobs", {"queue": "classify", "status": "started"}) == 1
    assert registry.get_sample_value("imagequeue_dead_letters", {"collection": "default"}) == 1


@pytest.mark.parametrize("role", ROLES)
def test_the_doctor_finds_nothing_missing(server: EmbeddedRedis, stage: Stage, role: str) -> None:
    link = Link(url_of(server, role), patience=5)
    assert denied(link, Role(role)) == []
    link.close()


def test_the_doctor_names_what_a_producer_lacks_to_be_an_operator(server: EmbeddedRedis, stage: Stage) -> None:
    link = Link(url_of(server, Role.PRODUCER), patience=5)
    missing = denied(link, Role.OPERATOR)
    assert f"HDEL {contract.results_key('default')}" in missing
    assert f"HDEL {contract.pending_key('default')}" not in missing
    link.close()


def test_the_doctor_names_each_command_and_its_key(server: EmbeddedRedis, stage: Stage, admin: redis.Redis) -> None:
    rights = ["+@all", "-evalsha", "-xread", "-script", "~*"]
    admin.execute_command("ACL", "SETUSER", "imagequeue-weak", "on", "nopass", *rights)
    link = Link(url_of(server, "weak"), patience=5)
    try:
        missing = denied(link, Role.PRODUCER)
    finally:
        link.close()
        admin.execute_command("ACL", "DELUSER", "imagequeue-weak")
    pending, completed = contract.pending_key("default"), contract.completed_key("default")
    assert missing == ["SCRIPT LOAD", f"EVALSHA {pending}", f"XREAD {completed}"]


@pytest.mark.parametrize("role", ROLES)
def test_every_command_that_a_roles_scripts_call_is_granted(
    someone: Callable[[str], redis.Redis], admin: redis.Redis, role: str
) -> None:
    """Also in branches that no test enters: undoing, damaged keys, retries."""
    key = {"exporter": "imagequeue:waiting", "worker": "rq:x"}.get(role, "imagequeue:pending:default")
    names = sorted(called(role) - UNUSED.get(role, set()))
    arities = {name: arity for name in names if (arity := arity_of(admin, name))}
    commands = tuple((name, key, *["1"] * arity)[:arity] for name, arity in arities.items())
    replies = queue_and_discard(someone(role), commands)[1:-1]
    assert dict(zip(arities, replies, strict=True)) == dict.fromkeys(arities, b"QUEUED")


def arity_of(client: redis.Redis, name: str) -> int:
    """The words that a command needs at least; 0 if this server does not know it."""
    (info,) = client.execute_command("COMMAND INFO", name)
    return abs(int(info[1])) if info else 0


def called(role: str) -> set[str]:
    """The commands that the scripts of a role call, with the parts in front of them."""
    names = {
        Role.PRODUCER: ["submit"],
        Role.OPERATOR: ["submit", "resubmit", "requeue", "cancel", "discard", "drop", "forget"],
        Role.WORKER: sorted(scripts(imagequeue_worker)),
        Role.EXPORTER: ["backlog"],
    }[Role(role)]
    package = "imagequeue_worker.scripts" if role in (Role.WORKER, Role.EXPORTER) else "imagequeue.scripts"
    texts = "\n".join(script_text(name, package) for name in names)
    return set(re.findall(r"(?:redis\.p?call|undo)\('([A-Z]+)'", texts))


# --- what nobody may ----------------------------------------------------------------------------------------

NOBODY = [
    ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "SET", "appendonly", "no"), ("SHUTDOWN",), ("ACL", "LIST"),
    ("MONITOR",), ("REPLICAOF", "NO", "ONE"), ("SCRIPT", "FLUSH"), ("FUNCTION", "LIST"),
    ("GET", "somebody-elses"), ("SET", "somebody-elses", "1"), ("PUBLISH", "somebody-elses", "1"),
]  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("command", NOBODY, ids=" ".join)
def test_nobody_may(someone: Callable[[str], redis.Redis], role: str, command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        someone(role).execute_command(*command)


NOT_A_PRODUCER = [
    ("HSET", "imagequeue:results:default", "a", "{}"), ("HDEL", "imagequeue:results:default", "a"),
    ("XADD", "imagequeue:completed:default", "*", "id", "a"), ("HGET", "imagequeue:dead:default", "a"),
    ("RPUSH", "rq:queue:other", "j"), ("ZADD", "rq:wip:classify", "1", "m"), ("HSET", "rq:worker:w", "f", "v"),
    ("HSET", "rq:job:other", "f", "v"), ("PUBLISH", "rq:pubsub:w", "{}"), ("SADD", "imagequeue:paused", "classify"),
    ("CONFIG", "GET", "requirepass"),
]  # fmt: skip


@pytest.mark.parametrize("command", NOT_A_PRODUCER, ids=" ".join)
def test_a_producer_may_not(someone: Callable[[str], redis.Redis], command: tuple[str, ...]) -> None:
    with pytest.raises(NoPermissionError):
        someone(Role.PRODUCER).execute_command(*command)


@pytest.mark.parametrize("key", ["imagequeue:waiting", "imagequeue:rates", "rq:queues", "imagequeue:pending:default"])
def test_an_exporter_writes_nothing(someone: Callable[[str], redis.Redis], key: str) -> None:
    for command in (("HSET", key, "f", "v"), ("DEL", key), ("SADD", key, "m")):
        with pytest.raises(NoPermissionError):
            someone(Role.EXPORTER).execute_command(*command)


def test_a_producer_that_sees_the_configuration_submits_durably(
    server: EmbeddedRedis, stage: Stage, admin: redis.Redis
) -> None:
    """As the note in redis.conf says; without the right, the refusal names it."""
    with Producer(url_of(server, Role.PRODUCER)) as producer:
        with pytest.raises(DurabilityUnavailable, match="CONFIG GET"):
            producer.submit("/new", durable=True)
        admin.execute_command("ACL", "SETUSER", "imagequeue-producer", "+config|get")
        try:
            assert producer.submit("/new", durable=True).accepted
        finally:
            admin.execute_command("ACL", "SETUSER", "imagequeue-producer", "-config|get")


def test_no_role_has_a_password_as_it_is_shipped() -> None:
    assert all(" resetpass " in line and ">" not in line for line in ACL.read_text().splitlines())


def test_a_real_worker_works_as_its_role(
    server: EmbeddedRedis, admin: redis.Redis, net_folder: Path, pictures: list[Path]
) -> None:
    command = [sys.executable, "-c", "from imagequeue_worker.cli import main; main()", "run", "--metrics-port", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEQUEUE_")}
    environment |= {
        "IMAGEQUEUE_REDIS_URL": url_of(server, Role.WORKER), "IMAGEQUEUE_NET": str(net_folder),
        "IMAGEQUEUE_IMAGE_ROOT": str(pictures[0].parent), "IMAGEQUEUE_PROCESSES": "1",
    }  # fmt: skip
    with (
        Producer(url_of(server, Role.PRODUCER)) as producer,
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as worker,
    ):
        images = [*map(Image, "abc", map(str, pictures)), Image("gone", f"{pictures[0]}.gone")]
        producer.submit_many(images)
        found = producer.wait(["a", "b", "c", "gone"], timeout=90)
        worker.terminate()
        _, log = worker.communicate(timeout=60)
    assert [result.status for result in found.values()] == ["ok", "ok", "ok", "error"]
    assert worker.returncode == 0
    assert "NOPERM" not in log
    assert "permission" not in log
