"""The dashboard on a live Prometheus that scrapes two workers and an exporter: every query returns data."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import redis
import yaml

from dashboard_queries import DASHBOARD, Query, ask, dashboard_queries, rule_queries
from files import DEPLOY, program, read_yaml
from imagequeue import Image, Producer
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port
from processes import running
from programs import PATIENCE_SECONDS, until


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def test_the_dashboard_is_what_its_program_writes() -> None:
    assert json.loads(DASHBOARD.read_text()) == load(DEPLOY / "grafana" / "dashboard.py").dashboard()


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_provisioning_finds_datasource_and_dashboards() -> None:
    (source,) = read_yaml(DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    (provider,) = read_yaml(DEPLOY / "grafana" / "provisioning" / "dashboards" / "imagequeue.yml")["providers"]
    services = read_yaml(DEPLOY / "compose.yaml")["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, net_folder: Path, pictures: list[Path]) -> Iterator[str]:
    """A Prometheus with our rules, on two workers that have had work, errors, retries and a death; its address."""
    binary = program("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("live")
    ports = [free_port() for _ in range(4)]
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(folder / "redis", options={"maxmemory": "1gb"}))
        for number, port in enumerate(ports[:2]):
            command = ["imagequeue-worker", "run", "--redis-url", server.url, "--net", net_folder, "--processes", "1"]
            command += ["--image-root", pictures[0].parent, "--metrics-port", str(port), "--batch-images", "8"]
            command += ["--allow-network", "127.0.0.0/8", "--retries-max", "1", "--retry-seconds", "0.1"]
            command += ["--fetch-timeout", "2"]
            stack.enter_context(running(command, folder / f"worker-{number}.log"))
        exporter = ["imagequeue-worker", "exporter", "--redis-url", server.url, "--exporter-port", str(ports[2])]
        stack.enter_context(running(exporter, folder / "exporter.log"))
        for port in ports[:3]:
            until(lambda port=port: is_there(f"http://127.0.0.1:{port}/readyz"), f"{port}, see {folder}")
        address = f"http://127.0.0.1:{ports[3]}"
        command = [binary, f"--config.file={configuration(folder, ports)}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        command += [f"--web.listen-address={address.removeprefix('http://')}"]
        stack.enter_context(running(command, folder / "prometheus.log"))
        until(lambda: is_there(f"{address}/-/ready"), "Prometheus")
        give_them_work(server.url, address, pictures)
        yield address


def configuration(folder: Path, ports: list[int]) -> Path:
    """deploy/prometheus/prometheus.yml with the targets of this test, faster."""
    config = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    targets = {"imagequeue-worker": ports[:2], "imagequeue-exporter": ports[2:3], "prometheus": ports[3:]}
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets[job["job_name"]]]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def is_there(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except URLError:
        return False


def give_them_work(url: str, address: str, pictures: list[Path]) -> None:
    """Pictures, what is none, what cannot be fetched; and one worker process killed while it holds a job."""
    with Producer(url) as producer, connect(url, resend=False) as connection:
        kill_one_that_holds_a_job(producer, connection)
        until(lambda: ask(address, "imagequeue_recovered_jobs_total"), "a recovered job")
        # Rates need counters that rise after they were first seen.
        for lot in range(3):
            before = images_counted(address)
            images = [Image(f"{lot}-{number}", str(pictures[number % len(pictures)])) for number in range(60)]
            images += [Image(f"{lot}-none", "/nowhere/cat.jpg")]
            images += [Image(f"{lot}-fetch", f"http://127.0.0.1:{free_port()}/cat.jpg")]
            producer.submit_many(images)
            until(lambda before=before: images_counted(address) >= before + 60, "images counted")


def kill_one_that_holds_a_job(producer: Producer, connection: redis.Redis) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        producer.submit(f"http://127.0.0.1:{silent.getsockname()[1]}/cat.jpg")
        silent.accept()  # somebody fetches it, and waits
        (holder,) = (key for key in connection.smembers("rq:workers") if connection.scard(key + b":executions"))
        os.kill(int(connection.hget(holder, "pid")), signal.SIGKILL)


def images_counted(address: str) -> float:
    return sum(float(one["value"][1]) for one in ask(address, "sum(imagequeue_images_total)"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", dashboard_queries(), ids=lambda query: f"{query.title}: {query.expression[:40]}")
def test_every_query_of_the_dashboard_returns_data(live: str, query: Query) -> None:
    until(lambda: ask(live, query.expression), query.expression, PATIENCE_SECONDS / 3)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("query", rule_queries(), ids=lambda query: query.title)
def test_every_rule_and_alert_is_understood(live: str, query: Query) -> None:
    ask(live, query.expression)


@pytest.mark.timeout(300)
def test_prometheus_evaluates_every_rule(live: str) -> None:
    def rules() -> list[dict[str, str]]:
        with urlopen(f"{live}/api/v1/rules", timeout=10) as reply:
            return [rule for group in json.load(reply)["data"]["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "rules evaluated")
    assert [(rule["name"], rule.get("lastError")) for rule in rules() if rule["health"] != "ok"] == []
    assert len(rules()) == len(rule_queries())
