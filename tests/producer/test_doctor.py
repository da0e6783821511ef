"""The doctor finds what is wrong, says what to do, and is quiet where nothing is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from imagequeue import Producer, contract, doctor
from imagequeue.doctor import Finding
from producer_hand import CommandLine
from test_submit_script import everything

RQ = contract.RQ_KEY_PREFIX


@pytest.fixture
def worker(connection: redis.Redis) -> None:
    """RQ knows a worker on our queues."""
    add_worker(connection, "w1")


def add_worker(connection: redis.Redis, name: str) -> None:
    connection.hset(f"{RQ}:worker:{name}", mapping={"birth": "now", "queues": "classify", "state": "idle"})
    connection.sadd(f"{RQ}:workers", f"{RQ}:worker:{name}")


def lease(connection: redis.Redis, job: str, worker: str) -> None:
    connection.zadd(f"{RQ}:wip:classify", {f"{job}:iqx": time.time() + 60})
    connection.hset(f"{RQ}:execution:{job}:iqx", "worker_name", worker)


@contextmanager
def configured(connection: redis.Redis, name: str, value: str) -> Iterator[None]:
    before = connection.config_get(name)[name]
    connection.config_set(name, value)
    try:
        yield
    finally:
        connection.config_set(name, before)


def weak(redis_url: str) -> str:
    """The same server, as the user `weak`."""
    if redis_url.startswith("unix://"):
        return redis_url.replace("unix://", "unix://weak@") + "?password=any"
    return redis_url.replace("://", "://weak:any@")


def finding(producer: Producer, check: str) -> Finding:
    (found,) = (finding for finding in producer.diagnose().findings if finding.check == check)
    return found


def test_a_sound_server_is_healthy(producer: Producer) -> None:
    diagnosis = producer.diagnose()
    assert [finding for finding in diagnosis.findings if not finding.ok] == []
    assert diagnosis.healthy


def test_every_finding_has_a_remedy(producer: Producer) -> None:
    assert [finding.check for finding in producer.diagnose().findings if not finding.remedy] == []


def test_one_wrong_thing_is_unhealthy(producer: Producer, connection: redis.Redis) -> None:
    with configured(connection, "maxmemory-policy", "allkeys-lru"):
        diagnosis = producer.diagnose()
    assert not diagnosis.healthy
    assert [finding.check for finding in diagnosis.findings if not finding.ok] == ["eviction"]


@pytest.mark.parametrize(
    ("check", "setting", "value", "found"),
    [
        ("eviction", "maxmemory-policy", "volatile-ttl", "volatile-ttl"),
        ("persistence", "appendonly", "no", "no append-only file"),
        ("persistence", "appendfsync", "no", "append-only file, appendfsync no"),
    ],
)
def test_a_wrong_setting_is_found(
    producer: Producer, connection: redis.Redis, check: str, setting: str, value: str, found: str
) -> None:
    with configured(connection, setting, value):
        now = finding(producer, check)
    assert (now.ok, now.found) == (False, found)


def test_memory_that_is_nearly_full_is_found(producer: Producer, connection: redis.Redis) -> None:
    with configured(connection, "maxmemory", str(connection.info("memory")["used_memory"] + 50_000)):
        assert not finding(producer, "memory").ok
    with configured(connection, "maxmemory", str(1 << 20)):  # a full server must not stop the doctor
        assert not finding(producer, "memory").ok
    with configured(connection, "maxmemory", str(1 << 30)):
        assert finding(producer, "memory").found.endswith("of 1024 MiB (maxmemory)")


def test_a_clock_that_is_off_is_found(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() - 86_400)
    now = finding(producer, "clock")
    assert not now.ok
    assert float(now.found.split()[0]) == pytest.approx(86_400, abs=60)


def test_old_versions_are_found() -> None:
    assert not doctor._version({"redis_version": "6.0.16"}).ok
    assert doctor._version({"redis_version": "6.2.14"}).ok
    assert doctor._version({"redis_version": "7.2.4", "valkey_version": "9.1.2"}).found == "Valkey 9.1.2"


def test_a_replica_is_found() -> None:
    assert not doctor._primary({"role": "slave", "master_host": "elsewhere"}).ok


def test_images_that_wait_for_nobody_are_found(producer: Producer, connection: redis.Redis) -> None:
    producer.submit("/a")
    now = finding(producer, "workers")
    assert (now.ok, now.found) == (False, "0 alive, 1 images wait")
    add_worker(connection, "w1")
    assert finding(producer, "workers").ok


def test_a_forgotten_pause_is_found(producer: Producer, worker: None) -> None:
    producer.pause("classify")
    assert finding(producer, "paused queues").ok, "nothing waits in it"
    producer.submit("/a")
    now = finding(producer, "paused queues")
    assert (now.ok, now.found) == (False, "classify")


def test_leases_without_a_worker_are_found(producer: Producer, connection: redis.Redis, worker: None) -> None:
    lease(connection, "iq-1", "w1")
    assert finding(producer, "leases").ok
    lease(connection, "iq-2", "gone")
    connection.zadd(f"{RQ}:wip:classify", {"iq-3:iqx": time.time()})
    now = finding(producer, "leases")
    assert (now.ok, now.found) == (False, "without a worker: iq-3, iq-2")


def test_leases_of_a_worker_that_has_ended_are_found(producer: Producer, connection: redis.Redis, worker: None) -> None:
    lease(connection, "iq-1", "w1")
    connection.hset(f"{RQ}:worker:w1", "death", "now")
    assert not finding(producer, "leases").ok


def test_pending_images_without_a_job_are_found(producer: Producer, connection: redis.Redis, worker: None) -> None:
    job = producer.submit("/a").job
    producer.submit("/b", collection="holidays")
    assert finding(producer, "pending images").ok
    connection.delete(contract.job_key(job or ""))
    now = finding(producer, "pending images")
    assert (now.ok, now.found) == (False, "without a job: 1 in default")


@pytest.mark.parametrize("status", ["finished", "failed", "stopped", "canceled"])
def test_a_job_that_has_ended_carries_nothing(
    producer: Producer, connection: redis.Redis, worker: None, status: str
) -> None:
    job = producer.submit("/a").job
    connection.hset(contract.job_key(job or ""), "status", status)
    assert not finding(producer, "pending images").ok


def test_keys_of_another_type_stop_no_diagnosis(producer: Producer, connection: redis.Redis, worker: None) -> None:
    job = producer.submit("/a").job
    connection.delete(contract.job_key(job or ""))
    connection.set(contract.job_key(job or ""), "of another type")
    assert not finding(producer, "pending images").ok


def test_the_doctor_changes_nothing(producer: Producer, connection: redis.Redis, worker: None) -> None:
    producer.submit("/a")
    lease(connection, "iq-1", "gone")
    before = everything(connection)
    producer.diagnose()
    assert everything(connection) == before


def test_a_table_names_the_remedies_of_what_is_wrong(producer: Producer, imagequeue: CommandLine) -> None:
    producer.submit("/a")
    answer = imagequeue("doctor")
    lines = {line.split("  ")[0]: line for line in answer.stdout.splitlines()}
    assert answer.exit_code == 1
    assert "start workers: `imagequeue-worker run`" in lines["workers"]
    assert "set `maxmemory-policy noeviction`" not in lines["eviction"]


def test_as_json_it_is_one_object(imagequeue: CommandLine) -> None:
    answer = imagequeue("doctor", "--json")
    assert answer.exit_code == 0
    diagnosis = json.loads(answer.stdout)
    assert diagnosis["healthy"] is True
    assert {finding["check"] for finding in diagnosis["findings"]} == {
        "version", "primary", "eviction", "persistence", "memory", "clock", "access", "keys", "workers",
        "paused queues", "leases", "pending images",
    }  # fmt: skip


def test_redis_that_is_not_there_is_exit_code_2(imagequeue: CommandLine) -> None:
    assert imagequeue("doctor", "--redis-url", "redis://127.0.0.1:1/0").exit_code == 2


def test_a_user_who_may_not_operate_is_told_what_is_missing(
    connection: redis.Redis, imagequeue: CommandLine, redis_url: str
) -> None:
    rights = ["+@all", "-hdel", "-config", "~*", "&*"]
    connection.execute_command("ACL", "SETUSER", "weak", "on", "nopass", *rights)
    try:
        answer = imagequeue("doctor", "--redis-url", weak(redis_url))
    finally:
        connection.execute_command("ACL", "DELUSER", "weak")
    assert answer.exit_code == 1
    assert f"HDEL {contract.results_key('default')}" in answer.stdout
    assert "appendfsync not visible to this user" in answer.stdout


def test_what_a_user_may_not_see_is_no_illness(
    connection: redis.Redis, imagequeue: CommandLine, redis_url: str
) -> None:
    connection.execute_command("ACL", "SETUSER", "weak", "on", "nopass", "+@all", "-zrange", "-config", "~*", "&*")
    try:
        answer = imagequeue("doctor", "--role", "producer", "--json", "--redis-url", weak(redis_url))
    finally:
        connection.execute_command("ACL", "DELUSER", "weak")
    findings = {finding["check"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert findings["leases"]["found"] == "not visible to this user"
    assert answer.exit_code == 0


@pytest.mark.usefixtures("worker")
def test_fields_that_a_user_may_not_read_stop_no_diagnosis(
    producer: Producer, connection: redis.Redis, imagequeue: CommandLine, redis_url: str
) -> None:
    producer.submit("/x")
    lease(connection, "iq-1", "w1")
    connection.execute_command("ACL", "SETUSER", "weak", "on", "nopass", "+@all", "-hget", "~*", "&*")
    try:
        answer = imagequeue("doctor", "--role", "exporter", "--json", "--redis-url", weak(redis_url))
    finally:
        connection.execute_command("ACL", "DELUSER", "weak")
    findings = {finding["check"]: finding for finding in json.loads(answer.stdout)["findings"]}
    assert findings["leases"]["found"] == findings["pending images"]["found"] == "not visible to this user"


@pytest.mark.parametrize(
    ("key", "kind"),
    [("rq:queue:classify", "list"), ("rq:wip:classify-low", "zset"), ("imagequeue:collections", "set"),
     ("imagequeue:completed:default", "stream")],
)  # fmt: skip
def test_a_key_of_another_type_is_named(producer: Producer, connection: redis.Redis, key: str, kind: str) -> None:
    producer.submit("/x")
    connection.delete(key)
    connection.set(key, "somebody else's")
    found = finding(producer, "keys")
    assert (found.ok, found.found) == (False, f"{key} holds a string, not a {kind}")
