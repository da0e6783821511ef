"""Machines in a network of their own, made of network namespaces: each has an address, and programs run "on" it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path


class NoNamespaces(Exception):  # noqa: N818
    """Raised when this machine lets nobody make network namespaces."""


@dataclass(frozen=True)
class Host:
    """One of them. `command` is what to run for a program on it."""

    namespace: str
    address: str

    def command(self, *words: str | Path) -> list[str | Path]:
        return ["ip", "netns", "exec", self.namespace, *words]


@contextmanager
def network(names: Sequence[str]) -> Iterator[dict[str, Host]]:
    """Hosts that reach each other through a switch, until the end of the block.

    The switch is a bridge in a namespace of its own: the machine's own network is left alone.
    """
    if shutil.which("ip") is None:
        raise NoNamespaces("the program `ip` is not installed (Debian's package iproute2)")
    with ExitStack() as stack:
        prefix = f"iq{os.getpid() % 10000}{secrets.token_hex(1)}"
        switch = f"{prefix}-switch"
        _add(switch, stack)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        hosts = {}
        for number, name in enumerate(names, 1):
            # 198.18.0.0/15 is for tests of networks.
            host = Host(f"{prefix}-{name}", f"198.18.77.{number}")
            _add(host.namespace, stack)
            cable = ["link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", switch]
            _ip("-n", host.namespace, *cable)
            _ip("-n", switch, "link", "set", f"port{number}", "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")
            hosts[name] = host
        yield hosts


def _add(namespace: str, stack: ExitStack) -> None:
    try:
        _ip("netns", "add", namespace)
    except subprocess.CalledProcessError as error:
        raise NoNamespaces(f"network namespaces are not permitted here ({error.stderr.strip()})") from error
    stack.callback(_ip, "netns", "delete", namespace)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
