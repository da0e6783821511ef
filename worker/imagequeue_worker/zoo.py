"""Known nets, and where a worker finds its net: a folder that was named, the cache, or the zoo's address.

A net is a folder that holds `init_net.pb` and `predict_net.pb`; any such folder works.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from imagequeue_worker.description import NET_FILES, NetDescription, read_description
from imagequeue_worker.errors import NetUnavailable
from imagequeue_worker.images.spec import ZOO, Preprocessing
from imagequeue_worker.settings import CACHE_VARIABLE, NetChoice

Progress = Callable[[str, int, int], None]
"""Told (file name, bytes so far, bytes in all) while a net is fetched."""

_TIMEOUT: Final = 10.0  # seconds to connect, and between two pieces
_PIECE: Final = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class NetFile:
    """One file of a known net."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class KnownNet:
    """A net that can be fetched by name. `address` is the folder's URL, without a slash at its end."""

    name: str
    address: str
    files: tuple[NetFile, ...]
    preprocessing: Preprocessing = ZOO


MOBILENET_V2: Final = KnownNet(
    "mobilenet_v2_1.0_224_quant",
    "https://s3.amazonaws.com/download.caffe2.ai/models/mobilenet_v2_1.0_224_quant",
    (
        NetFile("init_net.pb", 3_619_460, "9f7da9ede9630d8edcbd4e681d051dc6cb392202ce7496f4c78db194a6ddd0cc"),
        NetFile("predict_net.pb", 12_095, "608f4fb68d0e3db38a41b786a8b3045957f323306c4fb54e4c4c0799353ba9f0"),
    ),
)
KNOWN_NETS: Final[Mapping[str, KnownNet]] = {net.name: net for net in (MOBILENET_V2,)}
DEFAULT_NET: Final = MOBILENET_V2
BUILT_NET: Final = "efficientnet_lite0_int8"  # what `imagequeue-worker default-net` builds


def describe(folder: Path) -> NetDescription:
    """The description of the net in `folder`: its own, else a known net's of that name, else one of the zoo's kind.

    Raises NetUnavailable when its own is damaged.
    """
    name = folder.resolve().name
    known = KNOWN_NETS.get(name)
    spec = ZOO if known is None else known.preprocessing
    return read_description(folder) or NetDescription(name=name, preprocessing=spec)


def default_cache() -> Path:
    """Where fetched nets are kept: IMAGEQUEUE_CACHE, else `imagequeue` in the user's cache folder (XDG_CACHE_HOME)."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    import platformdirs

    return platformdirs.user_cache_path("imagequeue")


@dataclass(frozen=True, slots=True)
class FoundNets:
    """Nets that are there to be loaded, and why these."""

    choices: tuple[NetChoice, ...]
    why: str


def find_nets(
    named: Sequence[NetChoice] = (),
    cache: Path | None = None,
    progress: Progress | None = None,
    *,
    known: KnownNet = DEFAULT_NET,
    fetch: bool = True,
) -> FoundNets:
    """The nets to load: those that were named, else one from the cache, else the zoo's, fetched.

    In the cache, the zoo's net comes before one that `imagequeue-worker default-net` has built. Raises NetUnavailable
    when a folder lacks a file, or when none was named, cached or fetched; its message names the ways out.
    """
    if named:
        for choice in named:
            _check_folder(choice.folder)
        return FoundNets(tuple(named), "it was named")
    nets = (default_cache() if cache is None else cache) / "nets"
    if all(_is_right(nets / known.name / file.name, file) for file in known.files):
        return FoundNets((NetChoice(nets / known.name),), "the zoo's net is in the cache")
    if all((nets / BUILT_NET / name).is_file() for name in NET_FILES):
        return FoundNets((NetChoice(nets / BUILT_NET),), "it was built here; the zoo's net is not in the cache")
    if not fetch:
        raise NetUnavailable(
            f"no net was named, and none is in {nets}; `imagequeue-worker fetch-net` fetches the zoo's"
        )
    return FoundNets((NetChoice(fetch_net(known, cache, progress)),), "the zoo's net was fetched")


def _check_folder(folder: Path) -> None:
    missing = [name for name in NET_FILES if not (folder / name).is_file()]
    if missing:
        raise NetUnavailable(
            f"net folder {folder} has no {' and no '.join(missing)}; name a folder with both files in IMAGEQUEUE_NET"
        )


def fetch_net(net: KnownNet = DEFAULT_NET, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """The cached folder of a known net; files that it lacks, or that are damaged, are fetched first.

    A file appears under its name only when its checksum is right, so that an interruption leaves nothing half
    written, and two processes may fetch at once. Raises NetUnavailable when that is not possible.
    """
    folder = (default_cache() if cache is None else cache) / "nets" / net.name
    try:
        for file in net.files:
            if not _is_right(folder / file.name, file):
                folder.mkdir(parents=True, exist_ok=True)
                _fetch(f"{net.address}/{file.name}", folder / file.name, file, progress)
    except (OSError, HTTPException, _RefusedError) as error:
        raise NetUnavailable(_ways_out(net, folder, error)) from error
    return folder


class _RefusedError(Exception):
    """Raised when what an address sends is not the file."""


def _is_right(path: Path, file: NetFile) -> bool:
    try:
        return path.stat().st_size == file.size and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _fetch(address: str, target: Path, file: NetFile, progress: Progress | None) -> None:
    """Fetch one file beside `target`, check it, and move it there."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            _copy(address, out, file, progress)
            out.flush()
            os.fsync(out.fileno())
        part.chmod(0o644)  # mkstemp's files are their owner's only; a cache may be shared
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _copy(address: str, out: IO[bytes], file: NetFile, progress: Progress | None) -> None:
    digest, count = hashlib.sha256(), 0
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(_checked(address), timeout=_TIMEOUT) as response:
        # One byte more than the file has: an endless answer is not written to the disk.
        while piece := response.read(min(_PIECE, file.size + 1 - count)):
            out.write(piece)
            digest.update(piece)
            count += len(piece)
            if progress is not None:
                progress(file.name, min(count, file.size), file.size)
    if count != file.size:
        amount = f"more than {file.size}" if count > file.size else f"{count}"
        raise _RefusedError(f"{address} sent {amount} bytes; the file has {file.size}")
    if digest.hexdigest() != file.sha256:
        raise _RefusedError(f"{address} sent a file with sha256 {digest.hexdigest()}; expected {file.sha256}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Follow a redirect to an address that would have been accepted at first, too."""
        return super().redirect_request(req, fp, code, msg, headers, _checked(newurl))


def _checked(address: str) -> str:
    """The address, if it is https: or on this very machine."""
    parts = urlsplit(address)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")):
        return address
    raise _RefusedError(f"{address} is not https:; nets are fetched over https: only")


def _ways_out(net: KnownNet, folder: Path, error: Exception) -> str:
    addresses = " and ".join(f"{net.address}/{file.name}" for file in net.files)
    return (
        f"net {net.name} is not in the cache and could not be fetched ({error}). Either set IMAGEQUEUE_NET "
        f"to a folder with {' and '.join(NET_FILES)}; or run `imagequeue-worker fetch-net` where there is a "
        f"network; or build one with `imagequeue-worker default-net`; or download {addresses} into {folder}"
    )
