"""What `http:` may not reach: no address that is not public is connected to, however it is written or named."""

import sys
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.references.addresses import AddressPolicy
from name_server import NameServer
from web_server import FORBIDDEN, PUBLIC, WebServer, body, listener, redirect


def urls(name):
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


LOOPBACK = urls("loopback_urls.txt")
PRIVATE = urls("private_urls.txt")
NAMES = {
    "public.example": [[PUBLIC]],
    "private.example": [["127.0.0.1"]],
    "private6.example": [["::1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "both.example": [["127.0.0.1", "::1"]],
    "mixed.example": [[PUBLIC, "127.0.0.1"]],
    "mixed6.example": [[PUBLIC, "::1"]],
    "zero.example": [["0.0.0.0"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "metadata.example": [["169.254.169.254"]],
    "127.0.0.1.nip.example": [["127.0.0.1"]],
    # Public when it is checked, private when it is connected to: each look-up has the next answer.
    "rebinds.example": [[PUBLIC], ["127.0.0.1"]],
    "wavers.example": [[PUBLIC], ["127.0.0.1"]] * 200,
}
REFUSED = {ErrorCode.FORBIDDEN, ErrorCode.UNSUPPORTED_REFERENCE, ErrorCode.FETCH_FAILED, ErrorCode.NOT_FOUND}

NO_TLS = {ErrorCode.FETCH_FAILED, ErrorCode.FETCH_TIMEOUT}

_connects = None  # what this process connected to, while a test looks


def _look(event, arguments):
    if event == "socket.connect" and _connects is not None:
        _connects.append(arguments[1][0])


sys.addaudithook(_look)


@contextmanager
def no_connection_but_to(*allowed):
    """Whatever Python connects to meanwhile, in any thread, is one of these."""
    global _connects
    _connects = []
    try:
        yield
        assert set(_connects) <= set(allowed)
    finally:
        _connects = None


@pytest.fixture(scope="module")
def names():
    with NameServer(NAMES).running() as server:
        yield server


@pytest.fixture(scope="module")
def forbidden():
    with listener(FORBIDDEN, "::1") as (met, port):
        yield met, port


@pytest.fixture
def server():
    with WebServer(PUBLIC, {"/a.jpg": body(b"a picture")}).running() as running:
        yield running


@pytest.fixture(scope="module")
def turns():
    """A server that redirects to wherever the test says."""
    with WebServer(PUBLIC, {}).running() as running:
        yield running


@pytest.fixture(scope="module")
def ours(names):
    return references(names)


def references(names, **options):
    sources = {"fetch_seconds": 20.0, "tries_max": 1, "allowed_networks": (ip_network(PUBLIC),)} | options
    return References(ImageSources(resolve=names.resolve, **sources))


def outcome(ours, url):
    try:
        return ours.fetch(url)
    except ImageError as error:
        return error.code


def test_the_table_is_as_long_as_it_should_be():
    assert len(set(LOOPBACK)) + len(set(PRIVATE)) >= 80


@pytest.mark.parametrize("url", LOOPBACK)
def test_loopback_is_never_connected_to(ours, forbidden, url):
    met, port = forbidden
    with no_connection_but_to(PUBLIC):
        assert outcome(ours, url.format(p=port)) in REFUSED
    assert met == []


@pytest.mark.parametrize("url", PRIVATE)
def test_no_other_private_network_is_connected_to(ours, url):
    with no_connection_but_to():
        assert outcome(ours, url) is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("url", [*LOOPBACK, *PRIVATE])
def test_no_redirect_leads_there(ours, forbidden, turns, url):
    met, port = forbidden
    turns.answers["/go"] = redirect(url.format(p=port).encode().decode("latin-1"))
    turns.answers["/chain"] = redirect(f"http://public.example:{turns.port}/go")
    with no_connection_but_to(PUBLIC):
        for path in ("/go", "/chain"):
            assert outcome(ours, turns.url + path) in REFUSED
    assert met == []


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/", "gopher://x/", "data:,x", "unix:///run", "//", "", "s3://b/k"]
)
def test_no_redirect_leads_to_another_kind(ours, turns, location):
    turns.answers["/go"] = redirect(location)
    assert outcome(ours, turns.url + "/go") in REFUSED | {ErrorCode.TOO_MANY_REDIRECTS}


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(names, forbidden, server):
    met, port = forbidden
    names.questions.clear()
    with no_connection_but_to(PUBLIC):
        assert references(names).fetch(f"http://rebinds.example:{server.port}/a.jpg") == b"a picture"
    assert len(names.questions) == 2  # A and AAAA
    assert outcome(references(names), f"http://rebinds.example:{port}/") is ErrorCode.FORBIDDEN
    assert met == []


def test_a_name_that_wavers_is_never_followed_to_the_private_side(names, forbidden):
    met, port = forbidden
    # A public server on the listener's port: whichever answer comes, the connection would be made.
    with no_connection_but_to(PUBLIC):
        codes = {outcome(references(names), f"http://wavers.example:{port}/") for _ in range(200)}
    assert codes == {ErrorCode.FORBIDDEN, ErrorCode.FETCH_FAILED}
    assert met == []


def test_a_kept_connection_is_not_taken_for_another_name(names, forbidden, server):
    ours = references(names)
    assert ours.fetch(f"http://public.example:{server.port}/a.jpg") == b"a picture"
    assert outcome(ours, f"http://private.example:{server.port}/a.jpg") is ErrorCode.FORBIDDEN


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"])
def test_proxies_of_the_environment_are_ignored(names, forbidden, server, variable, monkeypatch):
    met, port = forbidden
    monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    with no_connection_but_to(PUBLIC):
        assert references(names).fetch(server.url + "/a.jpg") == b"a picture"
        assert outcome(references(names, fetch_seconds=0.5), f"https://public.example:{server.port}/") in NO_TLS
    assert met == []


def test_no_login_is_sent_from_a_netrc_nor_out_of_a_url(names, server, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text(f"machine {PUBLIC} login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert references(names).fetch(server.url + "/a.jpg") == b"a picture"
    assert outcome(references(names), f"http://me:secret@{PUBLIC}:{server.port}/a.jpg") is ErrorCode.FORBIDDEN
    assert [request.head.get("authorization") for request in server.requests] == [None]


def test_the_message_names_the_address_and_the_setting(names):
    with pytest.raises(ImageError, match=r"'private\.example' has the address 127\.0\.0\.1, .* --allow-network"):
        references(names).fetch("http://private.example/")


def test_a_network_may_be_allowed(names):
    with WebServer(FORBIDDEN, {"/a.jpg": body(b"inside")}).running() as server:
        url = f"http://private.example:{server.port}/a.jpg"
        assert outcome(references(names), url) is ErrorCode.FORBIDDEN
        assert references(names, allowed_networks=(ip_network("127.0.0.0/8"),)).fetch(url) == b"inside"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("8.8.8.8", True),
        ("172.15.255.255", True),
        ("172.32.0.0", True),
        ("100.128.0.0", True),
        ("169.253.255.255", True),
        ("223.255.255.255", True),
        ("2606:4700::1111", True),
        ("2a00:1450:4001::1", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),
        ("::8.8.8.8", False),
        ("2002:808:808::", False),
        ("64:ff9b:1::8.8.8.8", False),
        ("fe80::1%eth0", False),
        ("no address", False),
    ],
)
def test_public_is_what_is_neither_special_nor_reserved(address, public):
    assert AddressPolicy().permits(address) is public


def test_what_is_allowed_of_ipv4_is_allowed_when_it_is_mapped():
    policy = AddressPolicy((ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
    assert policy.permits("10.1.2.3")
    assert policy.permits("::ffff:10.1.2.3")
    assert policy.permits("fd00::1")
    assert not policy.permits("10.2.0.1")
    assert not policy.permits("64:ff9b::10.1.2.3")
