"""The worker as images and pods run it: a root that is read-only, a small /tmp, no capabilities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from files import program
from imagequeue import Producer
from imagequeue_worker.embedded_redis import EmbeddedRedis
from ports import free_port
from processes import run, running
from programs import until

# In a mount namespace of its own. /tmp itself is left: this project, or the net, may lie in it.
CONFINE = """
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs -o size=64m tmpfs "$1"
export TMPDIR="$1"
shift
if touch /imagequeue-was-here 2>/dev/null; then echo 'the root can be written'; exit 77; fi
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


@pytest.mark.timeout(300)
def test_the_worker_runs_on_a_read_only_root_without_capabilities(
    net_folder: Path, pictures: list[Path], tmp_path: Path
) -> None:
    unshare = program("unshare", "util-linux")
    program("setpriv", "util-linux")
    tried = subprocess.run([unshare, "-m", "mount", "--make-rprivate", "/"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"mount namespaces are not permitted here ({tried.stderr.strip()})")
    port = free_port()
    with EmbeddedRedis(tmp_path / "redis", port=free_port()) as server, Producer(server.url) as producer:
        (small := tmp_path / "tmp").mkdir()
        command = [unshare, "-m", "sh", "-c", CONFINE, "confine", small]
        command += [sys.executable, "-m", "imagequeue_worker.cli", "run", "--redis-url", server.url]
        command += ["--net", net_folder, "--image-root", pictures[0].parent]
        command += ["--processes", "1", "--metrics-port", str(port)]
        with running(command, tmp_path / "log") as worker:
            ids = producer.submit_many([str(path) for path in pictures]).ids
            results = list(producer.as_completed(ids, timeout=60))
            probe = ("imagequeue-worker", "probe", "live", "--metrics-port", str(port))
            until(lambda: run(*probe).returncode == 0, "the probe of the health check")
            worker.terminate()
            assert worker.wait(60) == 0, (tmp_path / "log").read_text()
    assert [result.status.value for result in results] == ["ok"] * len(pictures)
