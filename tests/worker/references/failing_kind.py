"""A kind for tests: `test:bytes=4` gives zeros, `test:fail=fetch_timeout` fails with that code."""

from imagequeue.contract import ErrorCode
from imagequeue_worker.errors import ImageError


class FailsOnDemand:
    def __init__(self, sources):
        self.sources = sources

    def __call__(self, ref, allowance):
        demand, value = ref.split(":", 1)[1].lstrip("/").split("=")
        if demand == "fail":
            raise ImageError(ErrorCode(value), f"{ref} fails on demand")
        return bytes(int(value))
