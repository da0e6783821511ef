"""Counts what was compared with real Caffe2; `tests/conftest.py` sums and prints it after the session.

The counts travel as user properties of the test reports: pytest-xdist's workers need nothing special.
"""

from collections.abc import Callable


def record(record_property: Callable[[str, object], None], kind: str, compared: int, differing: int) -> None:
    """Note how many things a test compared and how many differed; `record_property` is its fixture."""
    record_property(f"golden:{kind}", (compared, differing))
