"""Redis Sentinel by URL: what the URL says, where connections go, and what they do when the primary is another."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator

import pytest
import redis

from imagequeue import ConfigurationError, Producer, RedisUnavailable
from imagequeue.connection import connect, connect_async, redact
from imagequeue.link import AsyncLink, Link
from imagequeue.sentinel import PrimaryConnection, SecurePrimaryConnection, pool_options, server_url
from sentinel_site import SENTINEL_PASSWORD, SentinelSite, port_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSite]:
    with SentinelSite(tmp_path_factory.mktemp("sentinels")) as ours:
        yield ours


# --- the URL ---------------------------------------------------------------------------------------------------------


def test_a_url_names_sentinels_service_database_and_both_logins() -> None:
    options = pool_options(
        "redis+sentinel://app:p%40ss@one,two:1234,[::1]:5/service/3?sentinel_username=watch&sentinel_password=w&x=1"
    )
    sentinels = options.pop("sentinels")
    assert options == {
        "username": "app", "password": "p@ss", "db": 3, "x": "1", "connection_class": PrimaryConnection,
    }  # fmt: skip
    assert sentinels.service == "service"
    assert sentinels._addresses == (("one", 26379), ("two", 1234), ("::1", 5))
    assert (sentinels._options["username"], sentinels._options["password"]) == ("watch", "w")


def test_rediss_speaks_tls_to_sentinels_and_servers() -> None:
    options = pool_options("rediss+sentinel://one/service?ssl_ca_certs=/ca.pem")
    assert options["connection_class"] is SecurePrimaryConnection
    assert (options["db"], options["ssl_ca_certs"]) == (0, "/ca.pem")
    assert options["sentinels"]._options["ssl"] is True
    assert options["sentinels"]._options["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://", "redis+sentinel://one", "redis+sentinel:///service", "redis+sentinel://one/service/x",
     "redis+sentinel://one:0/service", "redis+sentinel://one:99999/s", "redis+sentinel://one,,two/s",
     "redis+sentinel://a:secret@b:c:d/s", "redis+sentinel://one/s/1/2?sentinel_password=secret"],
)  # fmt: skip
def test_a_url_of_another_form_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape("redis+sentinel://host[,host…]/service")) as refused:
        connect(url, resend=False)
    assert "secret" not in str(refused.value)


def test_a_message_shows_no_password() -> None:
    url = "redis+sentinel://app:secret@one/service?sentinel_password=secret&ssl_cert_reqs=none"
    assert redact(url) == "redis+sentinel://app:***@one/service?sentinel_password=***&ssl_cert_reqs=none"
    assert redact("redis://h/0?password=secret") == "redis://h/0?password=***"


def test_nobody_to_ask_is_said_with_every_sentinel() -> None:
    with pytest.raises(
        RedisUnavailable, match=r"no sentinel names a primary of 's' \(127\.0\.0\.1:1: .*127\.0\.0\.1:2: "
    ):
        Producer("redis+sentinel://127.0.0.1:1,127.0.0.1:2/s", patience=0).ping()


# --- where it leads --------------------------------------------------------------------------------------------------


def test_a_client_reaches_the_primary(site: SentinelSite) -> None:
    with connect(site.url, resend=False) as client:
        assert client.info("server")["tcp_port"] == port_of(site.primary())


def test_the_next_sentinel_is_asked_when_one_is_gone_or_knows_nothing(site: SentinelSite) -> None:
    gone = site.url.replace("://", "://127.0.0.1:1,", 1)
    with connect(gone, resend=False) as client:
        assert client.ping()
        sentinels = client.connection_pool.connection_kwargs["sentinels"]
        assert sentinels._addresses[-1] == ("127.0.0.1", 1) or sentinels._addresses[0] != ("127.0.0.1", 1)


def test_a_service_that_no_sentinel_knows_is_said(site: SentinelSite) -> None:
    with pytest.raises(RedisUnavailable, match="knows no such service"):
        Producer(site.url.replace("/ours/", "/theirs/"), patience=0).ping()


def test_the_sentinels_want_their_own_password(site: SentinelSite) -> None:
    with pytest.raises(RedisUnavailable) as refused:
        Producer(site.url.partition("?")[0], patience=0).ping()
    assert SENTINEL_PASSWORD not in str(refused.value)


def test_a_replica_that_a_sentinel_names_is_not_taken_for_the_primary(site: SentinelSite) -> None:
    (replica,) = (server for server in site.servers if server is not site.primary())
    with connect(site.url, resend=False) as client:
        sentinels = client.connection_pool.connection_kwargs["sentinels"]
        sentinels._ask = lambda _: ("127.0.0.1", port_of(replica))
        with pytest.raises(redis.ConnectionError, match="is a replica"):
            client.ping()


def test_tools_that_know_no_sentinels_get_the_servers_url(site: SentinelSite) -> None:
    assert server_url(site.url) == f"redis://127.0.0.1:{port_of(site.primary())}/0"
    with_options = site.url.replace("://", "://app:p%40ss@", 1) + "&ssl_cert_reqs=none"
    place = f"127.0.0.1:{port_of(site.primary())}"
    assert server_url(with_options) == f"redis://app:p%40ss@{place}/0?ssl_cert_reqs=none"
    assert server_url("unix:///x") == "unix:///x"


def test_a_primary_that_lacks_its_replicas_for_a_moment_is_waited_for(site: SentinelSite) -> None:
    link = Link(site.url, patience=60)
    with redis.Redis.from_url(site.primary().url) as primary:
        primary.config_set("min-replicas-to-write", 5)
        with pytest.raises(RedisUnavailable, match="NOREPLICAS"):
            link.call(lambda client: client.set("z", 1), within=0)
        healed = threading.Timer(0.3, lambda: primary.config_set("min-replicas-to-write", 0))
        healed.start()
        assert link.call(lambda client: client.set("z", 1))
        healed.join()
    link.close()


# --- when it is another ----------------------------------------------------------------------------------------------


def test_connections_leave_a_primary_that_was_demoted_also_when_they_wait(site: SentinelSite) -> None:
    site.wait_until_replicated()
    link = Link(site.url, patience=60)
    link.call(lambda client: client.set("x", 1))
    before = site.primary()
    waited: list[object] = []
    blocked = threading.Thread(
        target=lambda: waited.append(link.call(lambda client: client.xread({"stream": "$"}, block=2000)))
    )
    blocked.start()
    site.demote_primary()
    blocked.join()
    assert waited in ([{}], [[]])
    assert link.call(lambda client: client.incr("x")) == 2
    assert link.call(lambda client: client.info("server"))["tcp_port"] == port_of(site.primary()) != port_of(before)
    link.close()


def test_asyncios_connections_do_the_same(site: SentinelSite) -> None:
    site.wait_until_replicated()

    async def work() -> tuple[int, int]:
        link = AsyncLink(site.url, patience=60, connections=4)
        await link.ask(lambda client: client.set("async", 1))
        read = asyncio.create_task(link.ask(lambda client: client.xread({"stream": "$"}, block=2000), blocks=True))
        await asyncio.to_thread(site.demote_primary)
        await read
        count = await link.ask(lambda client: client.incr("async"))
        port = (await link.ask(lambda client: client.info("server")))["tcp_port"]
        await link.close()
        return count, port

    assert asyncio.run(work()) == (2, port_of(site.primary()))


def test_asyncios_connections_leave_a_replica_alone(site: SentinelSite) -> None:
    (replica,) = (server for server in site.servers if server is not site.primary())

    async def ping() -> None:
        async with connect_async(site.url) as client:
            client.connection_pool.connection_kwargs["sentinels"]._ask = lambda _: ("127.0.0.1", port_of(replica))
            await client.ping()

    with pytest.raises(redis.ConnectionError, match="is a replica"):
        asyncio.run(ping())


def test_connections_find_the_successor_of_a_primary_that_was_killed(site: SentinelSite) -> None:
    site.wait_until_replicated()
    link = Link(site.url, patience=60)
    link.call(lambda client: client.set("y", 1))
    link.call(lambda client: client.wait(1, 5000))
    killed = site.kill_primary()
    assert link.call(lambda client: client.incr("y")) == 2
    killed.start()
    site.wait_until_replicated()
    link.close()
