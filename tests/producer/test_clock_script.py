"""clock.lua writes dates as RQ does."""

from __future__ import annotations

from datetime import UTC, datetime

import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from imagequeue.scripts import script_text

LAST_SECOND = 253_402_300_799  # of the year 9999


@given(unix_seconds=st.integers(0, LAST_SECOND), microseconds=st.integers(0, 999_999))
@example(unix_seconds=951_782_400, microseconds=0)  # 2000-02-29
@example(unix_seconds=4_107_542_399, microseconds=999_999)  # 2100-02-28 23:59:59, no leap year
@example(unix_seconds=1_798_761_599, microseconds=1)  # the last second of 2026
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_date_is_pythons(connection: redis.Redis, unix_seconds: int, microseconds: int) -> None:
    script = script_text("clock") + "\nreturn iso_date(tonumber(ARGV[1]), tonumber(ARGV[2]))"
    expected = datetime.fromtimestamp(unix_seconds, UTC).replace(microsecond=microseconds)
    written = connection.eval(script, 0, unix_seconds, microseconds)
    assert written.decode() == expected.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def test_all_its_forms_are_one_instant_of_the_servers(connection: redis.Redis) -> None:
    script = script_text("clock") + "\nreturn {tostring(milliseconds), string.format('%.6f', seconds), stamp, iso}"
    before = connection.time()
    milliseconds, seconds, stamp, iso = (text.decode() for text in connection.eval(script, 0))
    after = connection.time()
    assert before <= tuple(map(int, stamp.split("."))) <= after
    assert seconds == stamp
    assert int(float(milliseconds)) == int(stamp.replace(".", "")) // 1000
    assert f"{datetime.fromisoformat(iso).timestamp():.6f}" == stamp
