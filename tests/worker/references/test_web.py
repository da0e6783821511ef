"""`http:` and `https:` that may be fetched: what comes back, how politely, and within which bounds."""

import gzip
import ssl
import threading
import time
import zlib
from email.utils import formatdate
from ipaddress import ip_network

import pytest
import trustme

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.references.web import _HOSTS_REMEMBERED_MAX, WebReader
from web_server import PUBLIC, WebServer, body, for_ever, raw, redirect, silence

IMAGE = bytes(range(256)) * 40
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server():
    with WebServer(PUBLIC, {"/a.jpg": body(IMAGE)}).running() as running:
        yield running


def references(**options):
    return References(ImageSources(allowed_networks=(ip_network(PUBLIC),), **{"fetch_seconds": 30.0} | options))


def failure(url, **options):
    with pytest.raises(ImageError) as caught:
        references(**options).fetch(url)
    return caught.value


# --- what is read ---


@pytest.mark.parametrize("path", ["/a.jpg", "/a.jpg?size=large", "/a.jpg#fragment"])
def test_a_picture_is_fetched(server, path):
    assert references().fetch(server.url + path) == IMAGE


def test_a_connection_is_kept(server):
    ours = references()
    for _ in range(5):
        assert ours.fetch(server.url + "/a.jpg") == IMAGE
    assert failure_of(ours, server.url + "/none").code is ErrorCode.NOT_FOUND
    assert ours.fetch(server.url + "/a.jpg") == IMAGE
    assert server.connections == 1


def failure_of(ours, url):
    with pytest.raises(ImageError) as caught:
        ours.fetch(url)
    return caught.value


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew(server):
    server.answers["/once"] = raw(HEAD + b"Content-Length: 3\r\n\r\nabc")
    ours = references()
    assert [ours.fetch(server.url + "/once") for _ in range(3)] == [b"abc"] * 3


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Again", "308 For Ever"])
@pytest.mark.parametrize("location", ["/a.jpg", "a.jpg", "{url}/a.jpg", "?again"])
def test_redirects_are_followed(server, status, location):
    server.answers["/go"] = lambda request: (
        body(IMAGE)(request) if "?" in request.path else redirect(location.format(url=server.url), status)(request)
    )
    assert references().fetch(server.url + "/go") == IMAGE


def test_redirects_are_counted_and_the_message_names_the_setting(server):
    for number in range(6):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}")
    server.answers["/6"] = body(IMAGE)
    assert references(redirects_max=6).fetch(server.url + "/0") == IMAGE
    error = failure(server.url + "/0", redirects_max=5)
    assert error.code is ErrorCode.TOO_MANY_REDIRECTS
    assert "5 times" in str(error)
    assert "--max-redirects" in str(error)


def test_a_redirect_to_itself_ends(server):
    server.answers["/loop"] = redirect("/loop")
    assert failure(server.url + "/loop").code is ErrorCode.TOO_MANY_REDIRECTS
    assert len(server.requests) == 6


@pytest.mark.parametrize("packed", [gzip.compress(IMAGE), zlib.compress(IMAGE)], ids=["gzip", "deflate"])
def test_a_body_that_is_compressed_unasked_is_inflated(server, packed):
    server.answers["/packed"] = body(packed, Content_Encoding="gzip" if packed[0] == 0x1F else "deflate")
    assert references().fetch(server.url + "/packed") == IMAGE
    assert server.requests[0].head["accept-encoding"] == "identity"


def test_a_chunked_body_is_read(server):
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (IMAGE[:100], IMAGE[100:])) + b"0\r\n\r\n"
    server.answers["/chunked"] = raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert references().fetch(server.url + "/chunked") == IMAGE


def test_a_body_without_a_length_ends_with_its_connection(server):
    server.answers["/open"] = raw(HEAD + b"\r\n" + IMAGE)
    assert references().fetch(server.url + "/open") == IMAGE


def test_an_empty_body_is_no_bytes(server):
    server.answers["/empty"] = body(b"")
    assert references().fetch(server.url + "/empty") == b""


def test_https_checks_the_certificate(monkeypatch, tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(PUBLIC).configure_cert(context)
    with WebServer(PUBLIC, {"/a.jpg": body(IMAGE)}, context).running() as server:
        stranger = failure(server.url + "/a.jpg")
        assert stranger.code is ErrorCode.FETCH_FAILED
        assert "certificate" in str(stranger).lower()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        ours = references()
        assert [ours.fetch(server.url + "/a.jpg") for _ in range(3)] == [IMAGE] * 3


# --- what servers say ---


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("404 Not Found", ErrorCode.NOT_FOUND),
        ("410 Gone", ErrorCode.NOT_FOUND),
        ("401 Unauthorized", ErrorCode.FORBIDDEN),
        ("403 Forbidden", ErrorCode.FORBIDDEN),
        ("451 Unavailable For Legal Reasons", ErrorCode.FORBIDDEN),
        ("400 Bad Request", ErrorCode.FETCH_FAILED),
        ("204 No Content", ErrorCode.FETCH_FAILED),
        ("206 Partial Content", ErrorCode.FETCH_FAILED),
        ("304 Not Modified", ErrorCode.FETCH_FAILED),
        ("302 Without A Location", ErrorCode.FETCH_FAILED),
        ("999 What", ErrorCode.FETCH_FAILED),
    ],
)
def test_a_status_is_an_error_at_once(server, status, code):
    server.answers["/it"] = body(b"words", status)
    error = failure(server.url + "/it")
    assert error.code is code
    assert status[:3] in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "503 Service Unavailable"])
def test_a_busy_server_is_asked_again(server, status):
    turns = iter([body(b"", status), body(b"", status, Retry_After=0), body(IMAGE)])
    server.answers["/busy"] = lambda request: next(turns)(request)
    assert references().fetch(server.url + "/busy") == IMAGE


def test_a_busy_server_is_asked_three_times_and_no_more(server):
    server.answers["/busy"] = body(b"", "503 Service Unavailable")
    assert failure(server.url + "/busy").code is ErrorCode.FETCH_FAILED
    assert len(server.requests) == 3


@pytest.mark.parametrize("after", ["3600", formatdate(time.time() + 3600, usegmt=True)], ids=["seconds", "date"])
def test_a_server_that_wants_to_be_left_alone_is_left_alone(server, after):
    server.answers["/busy"] = body(b"", "429 Too Many Requests", Retry_After=after)
    ours = references()
    error = failure_of(ours, server.url + "/busy")
    assert error.code is ErrorCode.FETCH_FAILED
    assert "come back in" in str(error)
    assert "left alone" in str(failure_of(ours, server.url + "/a.jpg"))
    assert len(server.requests) == 1


def test_a_retry_after_is_waited_for(server):
    times = []
    turns = iter([body(b"", "503 Service Unavailable", Retry_After=1), body(IMAGE)])

    def answer(request):
        times.append(time.monotonic())
        return next(turns)(request)

    server.answers["/busy"] = answer
    assert references().fetch(server.url + "/busy") == IMAGE
    assert times[1] - times[0] >= 0.9  # a lower bound holds on any machine


def test_hosts_may_be_remembered_while_old_ones_are_forgotten():
    reader = WebReader(ImageSources())

    class Moment(float):
        def __gt__(self, other):
            reader._closed_until["another thread's"] = 1.0
            return super().__gt__(other)

    reader._closed_until = {str(number): Moment(0.0) for number in range(_HOSTS_REMEMBERED_MAX)}
    reader._close_until("ours", 2.0)
    assert reader._closed_until == {"ours": 2.0}


# --- bounds ---


@pytest.mark.parametrize(
    "answer",
    [
        body(IMAGE),
        raw(HEAD + b"Content-Length: 99999999999999999999999999\r\n\r\n"),
        for_ever(HEAD + b"\r\n", IMAGE),
        for_ever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"),
        body(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip"),
        body(zlib.compress(bytes(50 << 20)), Content_Encoding="deflate"),
    ],
    ids=["long", "promised", "endless", "endless chunks", "gzip bomb", "deflate bomb"],
)
def test_a_body_above_the_limit_is_too_large(server, answer):
    server.answers["/large"] = answer
    error = failure(server.url + "/large", image_bytes_max=10_000)
    assert error.code is ErrorCode.TOO_LARGE
    assert "10000" in str(error)
    assert "--max-image-bytes" in str(error)


def test_a_body_at_the_limit_is_read(server):
    assert references(image_bytes_max=len(IMAGE)).fetch(server.url + "/a.jpg") == IMAGE


DRIPS = {
    "nothing": silence,
    "a status line": for_ever(b"", b"H", pause_seconds=0.02),
    "headers": for_ever(HEAD, b"X: y\r\n", pause_seconds=0.1),
    "a long header": for_ever(HEAD + b"X: ", b"y", pause_seconds=0.02),
    "continue": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_seconds=0.02),
    "a body": for_ever(HEAD + b"Content-Length: 1000000\r\n\r\n", b"x", pause_seconds=0.02),
    "chunks": for_ever(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", pause_seconds=0.02),
    "a body of an error": for_ever(b"HTTP/1.1 404 No\r\nContent-Length: 60000\r\n\r\n", b"x", pause_seconds=0.02),
    "a redirect's body": for_ever(
        b"HTTP/1.1 302 Go\r\nLocation: /a.jpg\r\nContent-Length: 60000\r\n\r\n", b"x", pause_seconds=0.02
    ),
}


@pytest.mark.parametrize("answer", DRIPS.values(), ids=list(DRIPS))
def test_a_server_that_drips_is_a_timeout_and_the_message_names_the_setting(server, answer):
    server.answers["/slow"] = answer
    error = failure(server.url + "/slow", fetch_seconds=1.0)
    assert error.code is ErrorCode.FETCH_TIMEOUT
    assert "1 s" in str(error)
    assert "--fetch-timeout" in str(error)


def test_a_server_that_never_ends_a_handshake_is_a_timeout(server):
    server.answers["/slow"] = silence
    error = failure(server.url.replace("http:", "https:") + "/slow", fetch_seconds=1.0)
    assert error.code in (ErrorCode.FETCH_TIMEOUT, ErrorCode.FETCH_FAILED)


def test_a_resolver_that_hangs_is_a_timeout():
    hanging = threading.Event()
    try:
        error = failure("http://slow.example/a.jpg", fetch_seconds=0.5, resolve=lambda *_: hanging.wait() and [])
        assert error.code is ErrorCode.FETCH_TIMEOUT
    finally:
        hanging.set()


BROKEN = {
    "no http": raw(b"\x16\x03\x01\x02\x00 not http at all\r\n\r\n"),
    "nothing": raw(b""),
    "an old status": raw(b"HTTP/9.9 OK\r\n\r\n"),
    "a status of words": raw(b"HTTP/1.1 fine thanks\r\n\r\n"),
    "too long a header": raw(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n"),
    "too many headers": raw(HEAD + b"X: y\r\n" * 200 + b"\r\n"),
    "a body cut short": raw(HEAD + b"Content-Length: 100\r\n\r\nabc"),
    "chunks cut short": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "chunks of no size": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n"),
    "gzip cut short": body(gzip.compress(IMAGE)[:-9], Content_Encoding="gzip"),
    "gzip that is none": body(IMAGE, Content_Encoding="gzip"),
    "another encoding": body(IMAGE, Content_Encoding="br"),
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=list(BROKEN))
def test_a_broken_answer_is_a_failed_fetch(server, answer):
    server.answers["/broken"] = answer
    assert failure(server.url + "/broken").code is ErrorCode.FETCH_FAILED


def test_a_port_that_nobody_listens_on_is_a_failed_fetch(server):
    with WebServer(PUBLIC, {}).running() as gone:
        pass
    assert failure(gone.url + "/a.jpg").code is ErrorCode.FETCH_FAILED


def test_connections_that_end_badly_leave_room_for_others(server):
    server.answers["/broken"] = BROKEN["a body cut short"]
    server.answers["/large"] = for_ever(HEAD + b"\r\n", IMAGE)
    ours = references(per_host_max=1, image_bytes_max=20_000)
    for path in ("/broken", "/large", "/none", "/broken"):
        failure_of(ours, server.url + path)
    assert ours.fetch(server.url + "/a.jpg") == IMAGE
