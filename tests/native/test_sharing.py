"""One net, many threads and many processes: packed weights are read by all, arenas belong to one call each.

Caught: one arena for all calls; arenas that are never given back.
"""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from imagequeue_worker.caffe2 import Net, QTensor, load_net
from native.layers import NATIVE_ENGINES, needs_native
from native.random_nets import write_random_net

pytestmark = needs_native

SIZE = 16
CALLS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps = ["wide_conv", "residual", "shuffle", "residual", "depthwise", "concat", "conv"]
    return write_random_net(tmp_path_factory.mktemp("net"), seed=5, steps=steps, size=SIZE)


@pytest.fixture(params=NATIVE_ENGINES)
def net(request, folder: Path) -> Net:
    return load_net(folder, engine=request.param)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (CALLS, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def wanted(folder: Path, pictures: np.ndarray) -> np.ndarray:
    return load_net(folder, engine="portable").run_pixels(pictures)["softmax"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("engine", NATIVE_ENGINES)
def test_many_threads_run_one_net_at_once(folder: Path, engine: str, threads: int, pictures, wanted):
    net = load_net(folder, engine=engine, threads=threads)
    firsts = range(0, CALLS, 4)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            results = pool.map(lambda first: net.run_pixels(pictures[first : first + 4])["softmax"], firsts)
            assert np.array_equal(np.concatenate(list(results)), wanted)


def test_many_threads_may_ask_for_blobs_first(net: Net, pictures):
    # What runs with nothing fused is made when it is first asked for.
    inputs = net.float_input(pictures[:2])
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: net.run_blobs(inputs), range(16)))
    for blobs in results[1:]:
        for name, value in results[0].items():
            same, other = (b.data if isinstance(b, QTensor) else b for b in (value, blobs[name]))
            assert np.array_equal(same, other)


def in_child(compute: Callable[[], np.ndarray]) -> bytes:
    """What a forked child computes; empty if it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)  # a lock that nobody holds any more must not hang the tests
            os.close(reading)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(compute().tobytes())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    return result


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("engine", NATIVE_ENGINES)
def test_forked_children_run_a_net_that_was_loaded_before(folder: Path, engine: str, threads: int, pictures, wanted):
    net = load_net(folder, engine=engine, threads=threads)
    # Before any run, and with arenas and threads of earlier runs.
    for _ in range(2):
        assert in_child(lambda: net.run_pixels(pictures)["softmax"]) == wanted.tobytes()
        assert net.run_pixels(pictures)["softmax"].tobytes() == wanted.tobytes()


def test_children_and_parent_run_at_the_same_time(net: Net, pictures, wanted):
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: in_child(lambda: net.run_pixels(pictures)["softmax"]), range(6)))
    assert results == [wanted.tobytes()] * 6


def test_runs_and_forgotten_nets_leave_no_memory_behind(folder: Path, pictures):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def use() -> None:
        for _ in range(10):
            net = load_net(folder, engine=NATIVE_ENGINES[0])
            for number in range(10):
                net.run_pixels(pictures[number : number + 1])

    use()
    before = resident()
    for _ in range(5):
        use()
    assert resident() - before < 8 << 20
