"""The same with the system's own resolver: in a network of its own, where the test's name server answers on port 53."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = r"""
import fcntl, socket, struct, sys
from ipaddress import ip_network

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:  # bring loopback up
    fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 0x49, b""))

from name_server import NameServer
from web_server import PUBLIC, WebServer, body, listener
from imagequeue_worker.errors import ImageError
from imagequeue_worker.references import ImageSources, References

names = {"rebinds.example": [[PUBLIC], ["127.0.0.1"]], "mixed.example": [[PUBLIC, "127.0.0.1"]],
         "private.example": [["127.0.0.1"]], "public.example": [[PUBLIC]],
         "wavers.example": [[PUBLIC], ["127.0.0.1"]] * 500}

def outcome(ours, url):
    try:
        return ours.fetch(url)
    except ImageError as error:
        return error.code.value

with NameServer(names, ("127.0.0.1", 53)).running() as server, listener("127.0.0.1") as (met, port):
    with WebServer(PUBLIC, {"/": body(b"a picture")}, port=port).running():
        def ours():
            return References(ImageSources(allowed_networks=(ip_network(PUBLIC),), tries_max=1, fetch_seconds=30.0))
        first = ours()
        print(outcome(first, f"http://public.example:{port}/"))
        print(outcome(first, f"http://private.example:{port}/"), outcome(first, f"http://mixed.example:{port}/"))
        print(outcome(first, f"http://rebinds.example:{port}/"), outcome(ours(), f"http://rebinds.example:{port}/"))
        print(sorted({str(outcome(ours(), f"http://wavers.example:{port}/")) for _ in range(30)}))
        print(len(server.questions) > 60, len(met))
"""


def test_a_name_that_rebinds_leads_nowhere_private(tmp_path):
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:5\n")
    tests = Path(__file__).parents[2]
    inside = f'mount --bind {resolver} /etc/resolv.conf && exec {sys.executable} -c "$SCRIPT"'
    try:
        probe = ["unshare", "--mount", "--net", "sh", "-c", f"mount --bind {resolver} /etc/resolv.conf"]
        if subprocess.run(probe, capture_output=True).returncode:
            pytest.skip("needs the right to make namespaces")
    except FileNotFoundError:
        pytest.skip("needs unshare")
    done = subprocess.run(
        ["unshare", "--mount", "--net", "sh", "-c", inside], capture_output=True, text=True,
        env={"SCRIPT": SCRIPT, "PYTHONPATH": str(tests), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "b'a picture'",
        "forbidden forbidden",
        "b'a picture' forbidden",
        "[\"b'a picture'\", 'forbidden']",
        "True 0",
    ]
