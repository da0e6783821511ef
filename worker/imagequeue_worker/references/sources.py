"""What every kind of reference shares: what it is made from, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import redis

from imagequeue_worker.references.addresses import Network
from imagequeue_worker.references.allowance import Allowance

SocketAddress: TypeAlias = tuple[Any, ...]

Resolve: TypeAlias = Callable[[str, int], list[tuple[int, SocketAddress]]]
"""The address families and socket addresses of a host and port; raises socket.gaierror."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSources:
    """What the settings say about where images may come from; every kind is made from it."""

    image_roots: tuple[Path, ...] = ()  # none: every path is forbidden
    image_bytes_max: int = 64 << 20
    bytes_in_flight_max: int = 256 << 20  # of all references that are being fetched and decoded
    fetch_seconds: float = 15.0  # for one reference: every try, redirect and pause of it
    tries_max: int = 3
    redirects_max: int = 5
    per_host_max: int = 8  # connections
    allowed_networks: tuple[Network, ...] = ()  # beside the public addresses
    resolve: Resolve | None = None  # names to addresses; the system's resolver unless a test has its own
    redis: Callable[[], redis.Redis] | None = None  # makes a client of the Redis that holds uploaded bytes


Fetch: TypeAlias = Callable[[str, Allowance], bytes]
"""Reads the bytes of one reference, which it gets whole, scheme included, within what it is allowed; raises ImageError
when it cannot. Called from several threads at once."""

Factory: TypeAlias = Callable[[ImageSources], Fetch]
"""Makes a kind, once per `References`; should be cheap, and open nothing yet."""
