"""Pictures below a prefix of an object store, in the order of their names. A cursor is the name.

S3 is listed page by page from the cursor on. Other stores give their whole list at once, and it is sorted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from imagequeue.errors import SourceError
from imagequeue.sources.arguments import IMAGE_SUFFIXES
from imagequeue.sources.items import Found, listed

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az"}
_S3 = ("s3", "s3a")


@dataclass(frozen=True, slots=True)
class Store:
    """What lies below `scheme://bucket/prefix/`; credentials and endpoint are those of the environment."""

    url: str

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor; raises SourceError, which names the last object that was listed."""
        scheme, _, path = self.url.partition("://")
        system = _file_system(scheme.lower())
        last = after
        try:
            for name in (_s3_names if scheme.lower() in _S3 else _names)(system, path, after):
                last = name
                if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                    ref = f"{scheme}://{name}"
                    yield listed(ref, ref, name)
        except Exception as error:  # the libraries of the stores have no root in common
            behind = f" after {last}" if last else ""
            raise SourceError(f"{self.url} broke off{behind}: {error or type(error).__name__}") from error


def _s3_names(system: Any, path: str, after: str) -> Iterator[str]:  # noqa: ANN401  s3fs has no annotations
    bucket, _, prefix = path.partition("/")
    behind = after.partition("/")[2]
    while True:
        page = system.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=behind)
        for item in page.get("Contents", ()):
            behind = item["Key"]
            yield f"{bucket}/{behind}"
        if not page.get("IsTruncated"):
            return


def _names(system: Any, path: str, after: str) -> Iterator[str]:  # noqa: ANN401  fsspec has no annotations
    return (name for name in sorted(system.find(path)) if name > after)


def _file_system(scheme: str) -> Any:  # noqa: ANN401  fsspec has no annotations
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise SourceError(f"{scheme}: is not installed; pip install 'imagequeue[{EXTRAS[scheme]}]'") from error
