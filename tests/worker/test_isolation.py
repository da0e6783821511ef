"""What the isolation server reads from its children."""

from __future__ import annotations

import os
import time

from imagequeue_worker.isolation import _read_until


def test_an_answer_that_is_not_whole_in_time_is_none() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"half of an ")
    assert _read_until(read_end, time.monotonic() + 0.05) is None
    os.write(write_end, b"answer")
    os.close(write_end)
    assert _read_until(read_end, time.monotonic()) is None  # it is whole, and too late
    assert _read_until(read_end, time.monotonic() + 60) == b"answer"
    os.close(read_end)
