"""Redis' files: taken by a server; the passwords that are made for the roles; TLS from both sides."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import redis
import trustme

from files import DEPLOY, program
from imagequeue import Image, Producer, RedisUnavailable
from imagequeue.connection import connect
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port
from processes import run, running
from programs import until

pytestmark = pytest.mark.timeout(300)  # they wait for whole workers
REDIS = DEPLOY / "redis"
ROLES = ("producer", "operator", "worker", "exporter")


def options_of(name: str) -> dict[str, str]:
    lines = (REDIS / name).read_text().splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def test_a_server_takes_the_configuration(tmp_path: Path) -> None:
    options = options_of("redis.conf")
    with EmbeddedRedis(tmp_path, options=options) as server, connect(server.url, resend=False) as connection:
        for name, value in options.items():
            assert connection.config_get(name)[name] == value.strip('"')


def test_sentinel_takes_its_configuration(tmp_path: Path) -> None:
    server = program("redis-server", "redis-server")
    port = free_port()
    own = tmp_path / "sentinel.conf"
    text = (REDIS / "sentinel.conf").read_text().replace("port 26379", f"port {port}\nbind 127.0.0.1")
    # The example's host has no address here; the server it names is not needed to take the file.
    own.write_text(text.replace("redis-1.example", "127.0.0.1"))
    with (
        running([server, own, "--sentinel"], tmp_path / "log"),
        redis.Redis(port=port, decode_responses=True) as client,
    ):
        until(lambda: listens(client))
        primary = client.sentinel_master("imagequeue")
        assert (primary["quorum"], primary["down-after-milliseconds"]) == (2, 5000)


def listens(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder of secrets for a server at a free port."""
    folder, port = tmp_path_factory.mktemp("made") / "secrets", free_port()
    made = subprocess.run([REDIS / "make-secrets.sh", folder, f"127.0.0.1:{port}"], capture_output=True, text=True)
    assert (made.returncode, made.stderr) == (0, "")
    return folder, port


@pytest.fixture(scope="module")
def guarded(secrets: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A server with the ACL file that was made; we ourselves are the operator."""
    folder, port = secrets
    options = {"port": str(port), "aclfile": str(folder / "users.acl")}
    with OperatorsRedis(
        tmp_path_factory.mktemp("guarded"), port, (folder / "operator_url").read_text(), options
    ) as server:
        yield server


class OperatorsRedis(EmbeddedRedis):
    """One whose default user may do nothing: it is asked as an operator whether it is there."""

    def __init__(self, folder: Path, port: int, url: str, options: dict[str, str]) -> None:
        super().__init__(folder, port=port, options=options)
        self._operators_url = url

    @property
    def url(self) -> str:
        return self._operators_url


@pytest.mark.parametrize("role", ROLES)
def test_every_role_gets_in_with_its_own_password(role: str, secrets: tuple[Path, int], guarded: EmbeddedRedis) -> None:
    with connect((secrets[0] / f"{role}_url").read_text(), resend=False) as connection:
        assert connection.client_info()["user"] == f"imagequeue-{role}"


def test_nobody_gets_in_without_one(secrets: tuple[Path, int], guarded: EmbeddedRedis) -> None:
    with connect(f"redis://127.0.0.1:{secrets[1]}/0", resend=False) as nobody, pytest.raises(redis.AuthenticationError):
        nobody.ping()


def test_passwords_differ_stay_out_of_the_acl_file_and_are_made_once(secrets: tuple[Path, int]) -> None:
    folder, _ = secrets
    urls = {role: (folder / f"{role}_url").read_text() for role in ROLES}
    passwords = {re.search(r":([0-9a-f]{48})@", url)[1] for url in urls.values()}  # type: ignore[index]
    assert len(passwords) == len(ROLES)
    acl = (folder / "users.acl").read_text()
    assert not any(password in acl for password in passwords)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    subprocess.run([REDIS / "make-secrets.sh", folder], check=True, capture_output=True)
    assert {role: (folder / f"{role}_url").read_text() for role in ROLES} == urls


def test_producer_worker_and_exporter_work_with_the_rights_of_their_roles(
    secrets: tuple[Path, int], guarded: EmbeddedRedis, net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    producers, workers, exporters = (
        (secrets[0] / f"{role}_url").read_text() for role in ("producer", "worker", "exporter")
    )
    ports = free_port(), free_port()
    worker = ["imagequeue-worker", "run", "--redis-url", workers, "--net", net_folder, "--processes", "1"]
    worker += ["--image-root", pictures[0].parent, "--metrics-port", str(ports[0])]
    exporter = ["imagequeue-worker", "exporter", "--redis-url", exporters, "--exporter-port", str(ports[1])]
    with running(worker, tmp_path / "worker.log"), running(exporter, tmp_path / "exporter.log"):
        with Producer(producers) as producer:
            ids = producer.submit_many([str(path) for path in pictures]).ids
            assert {result.status.value for result in producer.as_completed(ids, timeout=60)} == {"ok"}
        for port in ports:
            probe = ("imagequeue-worker", "probe", "ready", "--metrics-port", str(port))
            until(lambda probe=probe: run(*probe).returncode == 0, f"{probe} in {tmp_path}")
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                assert 'imagequeue_backlog_images{queue="classify"} 0.0' in page.read().decode()
    for log in ("worker.log", "exporter.log"):
        assert "NOPERM" not in (tmp_path / log).read_text()


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with tls.conf: its URL without an authority, and the folder with the right one's certificate."""
    server = program("redis-server", "redis-server")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "wrong.pem")
    text = (REDIS / "tls.conf").read_text().replace("/etc/redis", str(folder)).replace("6380", str(port))
    (folder / "tls.conf").write_text(text + (REDIS / "redis.conf").read_text())
    url = f"rediss://localhost:{port}/0"
    with running([server, folder / "tls.conf", "--bind", "127.0.0.1", "--dir", folder], folder / "log"):
        with redis.Redis(host="localhost", port=port, ssl=True, ssl_ca_certs=str(folder / "ca.pem")) as client:
            until(lambda: listens(client))
        yield url, folder


def test_producer_and_worker_meet_over_tls(
    tls_server: tuple[str, Path], net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    url = f"{tls_server[0]}?ssl_ca_certs={tls_server[1] / 'ca.pem'}"
    worker = ["imagequeue-worker", "run", "--redis-url", url, "--net", net_folder, "--image-root", pictures[0].parent]
    with running([*worker, "--processes", "1", "--metrics-port", "0"], tmp_path / "log"), Producer(url) as producer:
        ids = producer.submit_many([str(path) for path in pictures]).ids
        results = list(producer.as_completed(ids, timeout=60))
    assert [result.status.value for result in results] == ["ok"] * len(pictures)


@pytest.mark.parametrize("authority", ["?ssl_ca_certs={}/wrong.pem", ""], ids=["wrong", "unknown"])
def test_a_server_of_another_authority_is_refused_by_both_sides(
    authority: str, tls_server: tuple[str, Path], net_folder: Path
) -> None:
    url = tls_server[0] + authority.format(tls_server[1])
    with Producer(url, patience=0) as producer, pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        producer.submit("/nowhere.jpg")
    done = run("imagequeue-worker", "run", "--redis-url", url, "--net", net_folder, "--metrics-port", "0")
    assert done.returncode == 2
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_a_certificate_for_another_host_is_refused(tls_server: tuple[str, Path]) -> None:
    url = tls_server[0].replace("localhost", "127.0.0.1") + f"?ssl_ca_certs={tls_server[1] / 'ca.pem'}"
    with Producer(url, patience=0) as producer, pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        producer.submit("/nowhere.jpg")


def test_nothing_is_served_in_the_clear(tls_server: tuple[str, Path]) -> None:
    port = int(tls_server[0].split(":")[2].split("/")[0])
    with redis.Redis(port=port, retry=None) as client, pytest.raises(redis.RedisError):
        client.ping()


# --- backup -----------------------------------------------------------------------------------------------------------


def test_a_copy_of_the_append_only_folder_is_a_backup(net_folder: Path, pictures: list[Path], tmp_path: Path) -> None:
    """As the README says: no rewrite meanwhile, copy the folder of the running server, start another one on it."""
    images = [Image(f"image-{number}", str(pictures[number % len(pictures)])) for number in range(50)]
    with EmbeddedRedis(tmp_path / "first") as server, Producer(server.url, patience=0) as producer:
        with connect(server.url, resend=False) as connection:
            connection.config_set("auto-aof-rewrite-percentage", "0")
        producer.submit_many(images, durable=False)
        until(lambda: everything_is_written(server))
        shutil.copytree(tmp_path / "first" / "appendonlydir", tmp_path / "second" / "appendonlydir")
        producer.submit("/after/the/backup.jpg")
    with EmbeddedRedis(tmp_path / "second") as server, Producer(server.url) as producer:
        assert producer.progress().pending == len(images)
        worker = ["imagequeue-worker", "run", "--redis-url", server.url, "--net", net_folder, "--processes", "1"]
        worker += ["--image-root", pictures[0].parent, "--metrics-port", "0"]
        with running(worker, tmp_path / "log"):
            results = list(producer.as_completed([image.id for image in images], timeout=60))
    assert {result.status.value for result in results} == {"ok"}


def everything_is_written(server: EmbeddedRedis) -> bool:
    with connect(server.url, resend=False) as connection:
        persistence = connection.info("persistence")
    return not persistence["aof_rewrite_in_progress"] and not persistence["aof_buffer_length"]
