"""Where a worker finds its net: against an HTTP server on the loopback, good and bad."""

import hashlib
import re
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from imagequeue_worker import zoo
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.images import ZOO
from imagequeue_worker.settings import NetChoice
from imagequeue_worker.zoo import MOBILENET_V2, KnownNet, NetFile, describe, fetch_net, find_nets


def find(cache, known):
    """The folder of the one net that is found where none was named."""
    (choice,) = find_nets((), cache, known=known).choices
    return choice.folder


FILES = {"init_net.pb": bytes(range(256)) * 1000, "predict_net.pb": b"graph"}


def files(**wrong):
    return tuple(
        NetFile(name, len(data), wrong.get(name, hashlib.sha256(data).hexdigest())) for name, data in FILES.items()
    )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        data = FILES.get(self.path.rsplit("/", 1)[-1])
        mode = self.path.split("/")[1]
        if mode == "away":
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/init_net.pb")
            self.end_headers()
        elif data is None or mode == "missing":
            self.send_error(404)
        else:
            self.send_response(200)
            if mode != "endless":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if mode == "changed":
                data = bytes(len(data))
            elif mode == "cut":
                data = data[: len(data) // 2]
            elif mode == "endless":
                data = data * 3
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.asked = []
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def net(server, mode="good", **wrong):
    return KnownNet("small", f"http://127.0.0.1:{server.server_port}/{mode}", files(**wrong))


def left_in(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


# --- fetched ---


def test_a_net_is_fetched_once_then_found_in_the_cache(server, tmp_path):
    folder = find(tmp_path, net(server))
    assert folder == tmp_path / "nets" / "small"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert find(tmp_path, net(server)) == folder
    assert server.asked == ["/good/init_net.pb", "/good/predict_net.pb"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    folder = fetch_net(net(server), tmp_path)
    (folder / "predict_net.pb").write_bytes(b"grapf")
    assert (fetch_net(net(server), tmp_path) / "predict_net.pb").read_bytes() == b"graph"
    assert server.asked[2:] == ["/good/predict_net.pb"]


def test_files_put_into_the_cache_by_hand_are_taken(server, tmp_path):
    folder = tmp_path / "nets" / "small"
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    assert fetch_net(net(server), tmp_path) == folder
    assert server.asked == []


def test_progress_is_told_to_the_last_byte(server, tmp_path):
    told = []
    fetch_net(net(server), tmp_path, lambda *step: told.append(step))
    assert told[-1] == ("predict_net.pb", 5, 5)
    assert [step for step in told if step[0] == "init_net.pb"][-1] == ("init_net.pb", 256_000, 256_000)
    assert [step[1] for step in told[:-1]] == sorted(step[1] for step in told[:-1])


def test_two_may_fetch_at_once(server, tmp_path):
    threads = [threading.Thread(target=fetch_net, args=(net(server), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left_in(tmp_path) == ["init_net.pb", "predict_net.pb"]


# --- not fetched ---


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("missing", "404"),
        ("cut", "128000 bytes"),
        ("endless", "more than 256000"),
        ("changed", "sha256"),
        ("away", "not https"),
    ],
)
def test_a_bad_answer_leaves_nothing_and_names_the_ways_out(server, tmp_path, mode, reason):
    with pytest.raises(NetUnavailable, match=reason) as caught:
        find(tmp_path, net(server, mode))
    assert left_in(tmp_path) == []
    for way_out in (
        "IMAGEQUEUE_NET",
        "imagequeue-worker fetch-net",
        "/init_net.pb",
        "/predict_net.pb",
        str(tmp_path),
    ):
        assert way_out in str(caught.value)


def test_a_wrong_checksum_leaves_the_files_that_were_right(server, tmp_path):
    with pytest.raises(NetUnavailable, match="expected ffff"):
        fetch_net(net(server, **{"predict_net.pb": "f" * 64}), tmp_path)
    assert left_in(tmp_path) == ["init_net.pb"]


def test_a_fetch_that_is_interrupted_leaves_nothing(server, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_net(net(server), tmp_path, interrupt)
    assert left_in(tmp_path) == []


@contextmanager
def closed_port():
    """A port at which nobody listens, kept from others meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_no_network_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with closed_port() as port, pytest.raises(NetUnavailable, match="refused"):
        find(tmp_path, KnownNet("small", f"http://127.0.0.1:{port}", files()))


def test_a_cache_that_cannot_be_written_is_one_clear_error(server, tmp_path):
    (tmp_path / "nets").write_text("a file where a folder should be")
    with pytest.raises(NetUnavailable, match="IMAGEQUEUE_NET"):
        find(tmp_path, net(server))


@pytest.mark.parametrize("address", ["http://example.com/net", "ftp://example.com", "file:///etc", "net"])
def test_other_addresses_than_https_are_refused(tmp_path, address):
    with pytest.raises(NetUnavailable, match="not https"):
        find(tmp_path, KnownNet("small", address, files()))


# --- named ---


def test_a_folder_that_is_named_is_taken_as_it_is(tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes(b"any")
    assert find_nets([NetChoice(tmp_path)]).choices == (NetChoice(tmp_path),)


@pytest.mark.parametrize("missing", ["init_net.pb", "predict_net.pb"])
def test_a_named_folder_without_a_file_is_an_error_that_names_it(tmp_path, missing):
    for name in FILES:
        if name != missing:
            (tmp_path / name).write_bytes(b"any")
    with pytest.raises(NetUnavailable, match=re.escape(f"has no {missing}")):
        find_nets([NetChoice(tmp_path)])


def test_the_zoos_net_is_described():
    assert MOBILENET_V2.address.startswith("https://")
    assert zoo.KNOWN_NETS[MOBILENET_V2.name] is MOBILENET_V2
    assert [file.name for file in MOBILENET_V2.files] == list(zoo.NET_FILES)


def test_any_folder_is_described_by_the_zoos_preprocessing(tmp_path):
    description = describe(tmp_path / "my-net")
    assert (description.name, description.preprocessing) == ("my-net", ZOO)
    assert description.label(0, 1000) == ("n01440764", "tench")
    assert description.label(7, 10) == (None, "class 7")


def test_the_users_cache_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("IMAGEQUEUE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert zoo.default_cache() == tmp_path / "imagequeue"


def test_the_environment_may_name_another_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEQUEUE_CACHE", str(tmp_path))
    assert zoo.default_cache() == tmp_path


def test_a_net_that_was_built_here_serves_where_the_zoos_is_not_cached(tmp_path):
    built = tmp_path / "nets" / zoo.BUILT_NET
    built.mkdir(parents=True)
    for name in zoo.NET_FILES:
        (built / name).touch()
    found = find_nets((), tmp_path)
    assert found.choices == (NetChoice(built),)
    assert "built here" in found.why


def test_the_zoos_net_comes_before_the_built_one(tmp_path, server):
    known = net(server)
    folder = fetch_net(known, tmp_path)
    built = tmp_path / "nets" / zoo.BUILT_NET
    built.mkdir(parents=True)
    for name in zoo.NET_FILES:
        (built / name).touch()
    assert find(tmp_path, known) == folder


def test_nothing_is_fetched_where_that_is_not_wanted(tmp_path, server):
    with pytest.raises(NetUnavailable, match="none is in"):
        find_nets((), tmp_path, known=net(server), fetch=False)
    assert server.asked == []
