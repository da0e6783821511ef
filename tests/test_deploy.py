"""What deploy/ holds is taken by the programs that it is for."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from imagequeue_worker.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"


def test_a_server_takes_the_redis_configuration(tmp_path: Path) -> None:
    lines = (DEPLOY / "redis" / "redis.conf").read_text().splitlines()
    options = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    with EmbeddedRedis(tmp_path, options=options) as server, connect(server.url, resend=False) as connection:
        for name, value in options.items():
            assert connection.config_get(name)[name] == value.strip('"')


def test_systemd_waits_longer_than_the_worker_needs_to_drain() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "systemd" / "imagequeue-worker.service")
    grace = next(field for field in Settings.__dataclass_fields__.values() if field.name == "grace").default
    assert float(unit["Service"]["TimeoutStopSec"]) > grace + 5
    assert re.search(r"imagequeue-worker run$", unit["Service"]["ExecStart"])
