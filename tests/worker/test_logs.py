"""What stands in a worker's log: ids, and no secrets. Real processes, real errors."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from imagequeue import Image, Producer
from imagequeue.connection import connect
from imagequeue.contract import queue_key
from imagequeue_worker import logs
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.logs import configure_logging, name_process, redact_secrets
from ports import free_port
from worker_process import StartWorker, run_cli, running_worker, until

PASSWORD = "s3cret-Pa55word"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"redis://:{PASSWORD}@host:6379/0", "redis://:***@host:6379/0"),
        (f"rediss://user:{PASSWORD}@host/0 refused", "rediss://user:***@host/0 refused"),
        (f"redis://user:with@in{PASSWORD}@host/0", "redis://user:***@host/0"),
        (f'{{"url": "https://user:{PASSWORD}@host/cat.jpg"}}', '{"url": "https://user:***@host/cat.jpg"}'),
        (f"https://b.s3.amazonaws.com/k?X-Amz-Signature={PASSWORD}&x=1", "https://b.s3.amazonaws.com/k?X-Amz-Signature=***&x=1"),
        (f"https://host/x?a=b&token={PASSWORD}", "https://host/x?a=b&token=***"),
        ("https://host/cat.jpg?size=1 and user@host", "https://host/cat.jpg?size=1 and user@host"),
        ("data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="),
        ("took 0:00:01 http://host:80/a@b.jpg", "took 0:00:01 http://host:80/a@b.jpg"),
    ],
)  # fmt: skip
def test_secrets_in_addresses_are_taken_out_and_nothing_else(text: str, redacted: str) -> None:
    assert redact_secrets(text) == redacted


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Any:
    """What has been logged since, as JSON; logging is as it was afterwards."""
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    root.handlers, root.level = before
    logs._process.clear()
    structlog.reset_defaults()


def test_every_thread_of_a_process_names_its_worker(lines: Any) -> None:
    configure_logging("info", json=True)
    name_process(worker="host.1.ab")
    thread = threading.Thread(target=lambda: structlog.get_logger("t").warning("hello", job="iq-1"))
    thread.start()
    thread.join()
    logging.getLogger("rq.other").warning("from RQ")
    mine, foreign = lines()
    assert (mine["event"], mine["worker"], mine["job"]) == ("hello", "host.1.ab", "iq-1")
    assert (foreign["event"], foreign["worker"]) == ("from RQ", "host.1.ab")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_has_no_secret(capfd: pytest.CaptureFixture[str], lines: Any, as_json: bool) -> None:
    configure_logging("info", json=as_json)
    try:
        raise RuntimeError(f"redis://:{PASSWORD}@host")
    except RuntimeError:
        structlog.get_logger("t").exception("it failed", url=f"redis://:{PASSWORD}@host")
    text = capfd.readouterr().err
    assert "RuntimeError" in text
    assert PASSWORD not in text


def test_a_worker_says_what_happened_to_which_job_on_which_worker(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    worker = start_worker("--log-json", "--log-level", "debug")
    producer.wait(producer.submit_many([Image("good", str(pictures[0])), Image("bad", "fault:defect")], chunk=1).ids)
    assert worker.stop() == 0
    said = [json.loads(line) for line in worker.log_text().splitlines() if line.startswith("{")]
    by_event = {line["event"]: line for line in said}
    (child,) = {line["worker"] for line in said if line["event"] == "batch classified"}
    assert by_event["ready"]["worker"] == child
    defect = by_event["defect while loading an image"]
    assert (defect["worker"], defect["collection"], defect["id"]) == (child, "default", "bad")
    assert defect["job"].startswith("iq-")
    assert defect["exception"]


def test_libraries_say_only_what_is_wrong(lines: Any) -> None:
    configure_logging("debug", json=True)
    logging.getLogger("redis.maintenance").debug("a detail")
    logging.getLogger("urllib3.connectionpool").info("a connection")
    logging.getLogger("urllib3.connectionpool").warning("a problem")
    structlog.get_logger("imagequeue_worker.x").debug("a detail of ours")
    assert [line["event"] for line in lines()] == ["a problem", "a detail of ours"]


def test_a_batch_is_a_line_at_debug_and_none_at_info(
    start_worker: StartWorker, producer: Producer, pictures: list[Path]
) -> None:
    worker = start_worker("--log-json")
    producer.wait(producer.submit_many([Image("good", str(pictures[0]))]).ids, timeout=60)
    assert worker.stop() == 0
    assert "batch classified" not in worker.log_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server of the test's own, with a user that has a password."""
    with EmbeddedRedis(tmp_path / "redis", port=free_port()) as ours:
        with connect(ours.url, resend=False) as admin:
            admin.execute_command("ACL", "SETUSER", "worker", "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield ours


def with_password(server: EmbeddedRedis, password: str = PASSWORD) -> str:
    return server.url.replace("redis://", f"redis://worker:{password}@")


def test_a_password_never_stands_in_a_log_whatever_goes_wrong(
    server: EmbeddedRedis, net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """A script is refused, pictures' addresses have secrets, a child is killed, and then the server."""
    url, log = with_password(server), tmp_path / "log"
    refs = [
        str(pictures[0]), "fault:defect", f"http://u:{PASSWORD}@127.0.0.1:9/x.jpg",
        f"https://host.invalid/x.jpg?X-Amz-Signature={PASSWORD}",
    ]  # fmt: skip
    arguments = ("--log-level", "debug", "--log-json", "--retry-seconds", "0.1")
    with (
        connect(url, resend=False) as connection,
        Producer(url) as producer,
        running_worker(url, connection, net_folder, log, arguments, roots=[pictures[0].parent]) as worker,
    ):
        worker.wait_until_ready()
        producer.wait(producer.submit_many(refs, chunk=1).ids, timeout=60)
        connection.set(queue_key("classify-high"), "no list")
        producer.submit(refs[0], id="wakes it")
        until(lambda: "another type" in worker.log_text() or "refused" in worker.log_text(), worker)
        connection.delete(queue_key("classify-high"))
        os.kill(worker.children()[0], signal.SIGKILL)
        until(lambda: worker.log_text().count('"ready"') == 2, worker)
        os.kill(server.pid or 0, signal.SIGKILL)
        until(lambda: "Redis is away" in worker.log_text(), worker)
    text = log.read_text()
    assert "defect while loading an image" in text
    assert "worker process ended" in text
    assert PASSWORD not in text


def test_a_worker_that_cannot_log_in_says_so_without_the_password(server: EmbeddedRedis, net_folder: Path) -> None:
    url = with_password(server, f"not-{PASSWORD}")
    done = run_cli("run", "--redis-url", url, "--net", net_folder, "--metrics-port", "0")
    assert done.returncode == 2
    assert "refuses the login" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
