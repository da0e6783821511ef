"""Where the library is missing or is not ours, workers run the portable engine and say why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagequeue_worker.caffe2 import UnknownEngine, available_engines, load_net, native_problem
from imagequeue_worker.caffe2.native import LIBRARY_VARIABLE
from native.layers import NATIVE_ENGINES, needs_native
from programs import environment_without_settings


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = environment_without_settings() | environment
    return subprocess.run([sys.executable, *command], env=whole, capture_output=True, text=True, check=False)


def info(**environment: str) -> dict[str, object]:
    done = run("-m", "imagequeue_worker.cli", "info", "--json", **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_library_that_the_tests_are_given_has_kernels():
    # `make emulated` and `make asan` give one: all tests would be skipped if it did not load.
    if os.environ.get(LIBRARY_VARIABLE):
        assert native_problem() == ""
        assert NATIVE_ENGINES


def write_library(folder: Path, kind: str) -> str:
    """A file that is no library; one that is another's; or none."""
    file = folder / "_native.so"
    if kind == "no library":
        file.write_bytes(b"\x7fELF, they said")
    elif kind == "another library":
        import _ctypes

        file.write_bytes(Path(_ctypes.__file__).read_bytes())
    return str(file)


@pytest.mark.parametrize("kind", ["missing", "no library", "another library"])
def test_without_the_library_the_portable_engine_runs_and_info_says_why(tmp_path: Path, net_folder: Path, kind: str):
    library = write_library(tmp_path, kind)
    found = info(IMAGEQUEUE_NATIVE_LIBRARY=library, IMAGEQUEUE_NET=str(net_folder))
    assert (found["engines"], found["engine"]) == (["portable"], "portable")
    assert library in str(found["native_problem"])
    assert "install again" in str(found["native_problem"])
    (net,) = found["nets"]
    assert net["engine"] == "portable"
    table = run("-m", "imagequeue_worker.cli", "info", IMAGEQUEUE_NATIVE_LIBRARY=library)
    assert "no native engine" in table.stdout


def test_without_the_library_a_forced_native_engine_is_refused(net_folder: Path):
    code = f"from imagequeue_worker.caffe2 import load_net; load_net({str(net_folder)!r})"
    environment = {"IMAGEQUEUE_NATIVE_LIBRARY": "/nonexistent", "IMAGEQUEUE_ENGINE": "native/scalar"}
    done = run("-c", code, **environment)
    assert "UnknownEngine" in done.stderr
    assert "native/scalar" in done.stderr
    assert "portable" in done.stderr
    # Portable can still be forced, and is what "auto" means.
    for engine in ("portable", "auto", ""):
        assert run("-c", code, **{**environment, "IMAGEQUEUE_ENGINE": engine}).returncode == 0


@needs_native
def test_info_says_which_engine_runs_the_net(net_folder: Path):
    found = info(IMAGEQUEUE_NET=str(net_folder), IMAGEQUEUE_NATIVE_LIBRARY=os.environ.get(LIBRARY_VARIABLE, ""))
    assert found["engines"] == available_engines()
    assert found["engine"] == NATIVE_ENGINES[0]
    assert found["native_problem"] is None
    (net,) = found["nets"]
    assert net["engine"] == NATIVE_ENGINES[0]
    assert "portable" not in {step["kernel"] for step in net["steps"]}


@needs_native
def test_every_engine_can_be_forced(net_folder: Path, monkeypatch: pytest.MonkeyPatch):
    for engine in available_engines():
        monkeypatch.setenv("IMAGEQUEUE_ENGINE", engine)
        assert load_net(net_folder).engine == engine
        assert load_net(net_folder, engine="portable").engine == "portable"  # the argument comes first


@pytest.mark.parametrize("engine", ["native", "native/", "native/warp", "avx2", "scalar", "Portable", " portable"])
def test_an_engine_must_be_one_of_the_list(net_folder: Path, engine: str):
    with pytest.raises(UnknownEngine) as caught:
        load_net(net_folder, engine=engine)
    assert all(name in str(caught.value) for name in available_engines())
