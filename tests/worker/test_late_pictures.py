"""A picture that does not come keeps nobody else waiting: neither its neighbours nor what is submitted after it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from imagequeue import Producer
from imagequeue.contract import Image, Request, encode_job
from imagequeue_worker.images import DEFAULT_LIMITS
from imagequeue_worker.jobs import Lease, TakenJob
from imagequeue_worker.loading import Threads
from imagequeue_worker.nets import Nets, load_nets
from imagequeue_worker.pipeline import Pipeline
from imagequeue_worker.references import ImageSources, References
from imagequeue_worker.settings import NetChoice
from web_server import PUBLIC, WebServer, body
from worker_process import StartWorker, until

PATIENCE_SECONDS = 0.05


class Gate:
    """A server that answers nothing until it is opened."""

    def __init__(self, picture: Path) -> None:
        self._opened = threading.Event()
        self._picture = picture.read_bytes()
        self.asked = threading.Semaphore(0)

    def open(self) -> None:
        self._opened.set()

    def __call__(self, request: object) -> bool:
        self.asked.release()
        self._opened.wait(60)
        return bool(body(self._picture)(request))


@pytest.fixture
def gate(pictures: list[Path]) -> Iterator[Gate]:
    gate = Gate(pictures[0])
    yield gate
    gate.open()


@pytest.fixture
def server(gate: Gate) -> Iterator[WebServer]:
    with WebServer(PUBLIC, {"/late.jpg": gate}).running() as running:
        yield running


@pytest.fixture(scope="module")
def nets(net_folder: Path) -> Nets:
    return load_nets([NetChoice(net_folder)], "auto")


def make_pipeline(nets: Nets, root: Path, *, fetch_seconds: float = 60.0, threads: Threads | None = None) -> Pipeline:
    sources = ImageSources(image_roots=(root,), allowed_networks=(ip_network(PUBLIC),), fetch_seconds=fetch_seconds)
    return Pipeline(nets, References(sources), DEFAULT_LIMITS, threads=threads or Threads())


def job(*refs: str | Path, name: str = "iq-1") -> TakenJob:
    request = Request(images=tuple(Image(f"i{n}", str(ref)) for n, ref in enumerate(refs)))
    return TakenJob(
        Lease("classify", name, "iqx"), attempt=1, losses=0, collection="default", submitted_at=0.0, taken_at=0.0,
        forbidden=False, data=encode_job(request), ids=tuple(image.id for image in request.images),
    )  # fmt: skip


def test_63_neighbours_of_a_hanging_server_are_classified_without_it(
    nets: Nets, pictures: list[Path], server: WebServer, gate: Gate
) -> None:
    pipeline = make_pipeline(nets, pictures[0].parent)
    refs = [*(pictures[n % 3] for n in range(31)), f"{server.url}/late.jpg", *(pictures[n % 3] for n in range(32))]
    done = pipeline.classify_ready(pipeline.prepare([job(*refs)]), 5.0)
    (part,) = done.parts
    assert (done.images, done.finished, len(part.outcomes)) == (63, [], 63)
    assert {outcome.status.value for outcome in part.outcomes} == {"ok"}
    assert "i31" not in {outcome.id for outcome in part.outcomes}
    assert done.late.waiting_images == 1

    # When it comes, whoever sleeps is told, and the job's last answer has all of its images.
    told = threading.Event()
    pipeline.tell_of_late_ones(told.set)
    assert not done.late.has_ready()
    gate.open()
    assert told.wait(60)
    assert done.late.has_ready()
    last = pipeline.classify_ready(done.late, PATIENCE_SECONDS)
    assert [outcome.id for outcome in last.finished[0].outcomes] == [f"i{n}" for n in range(64)]
    assert (last.images, last.parts, last.late.jobs) == (1, [], [])
    pipeline.close()


def test_a_server_that_never_answers_ends_as_a_timeout(nets: Nets, pictures: list[Path], server: WebServer) -> None:
    pipeline = make_pipeline(nets, pictures[0].parent, fetch_seconds=0.5)
    (finished,) = pipeline.classify(pipeline.prepare([job(f"{server.url}/late.jpg", pictures[0])]))
    assert [outcome.error.code if outcome.error else "ok" for outcome in finished.outcomes] == ["fetch_timeout", "ok"]
    pipeline.close()


def test_a_host_that_hangs_does_not_take_every_thread(
    nets: Nets, pictures: list[Path], server: WebServer, gate: Gate
) -> None:
    pipeline = make_pipeline(nets, pictures[0].parent, threads=Threads(fetching=4, per_host=2))
    hanging = pipeline.prepare([job(*[f"{server.url}/late.jpg"] * 10)])
    others = pipeline.prepare([job(*pictures * 3, name="iq-2")])
    assert len(pipeline.classify(others)[0].outcomes) == 9
    assert gate.asked.acquire(timeout=60)
    assert gate.asked.acquire(timeout=60)
    assert not gate.asked.acquire(blocking=False)
    gate.open()
    assert len(pipeline.classify(hanging)[0].outcomes) == 10
    pipeline.close()


def test_what_is_cancelled_is_not_begun(nets: Nets, pictures: list[Path], server: WebServer, gate: Gate) -> None:
    pipeline = make_pipeline(nets, pictures[0].parent, threads=Threads(fetching=1, per_host=1))
    batch = pipeline.prepare([job(f"{server.url}/late.jpg", *[f"{server.url}/other.jpg"] * 5)])
    assert gate.asked.acquire(timeout=60)
    batch.cancel()
    gate.open()
    pipeline.classify(pipeline.prepare([job(pictures[0], name="iq-2")]))
    assert [request.path for request in server.requests] == ["/late.jpg"]
    pipeline.close()


# --- in a worker ---


def test_a_worker_publishes_63_of_64_while_the_last_is_waited_for(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], server: WebServer, gate: Gate
) -> None:
    worker = start_worker("--allow-network", PUBLIC, "--fetch-timeout", "60", "--stall-timeout", "120")
    refs = [*(f"{pictures[n % 3]}" for n in range(63))]
    ids = [f"i{n}" for n in range(63)]
    images = [*zip(ids, refs, strict=True), ("late", f"{server.url}/late.jpg")]
    producer.submit_many([Image(id_, ref) for id_, ref in images], chunk=64)
    until(lambda: producer.progress().ok == 63, worker)
    assert producer.progress().pending == 1
    # The loop goes on meanwhile.
    producer.submit_many([Image(f"next{n}", str(pictures[0])) for n in range(8)])
    until(lambda: producer.progress().ok == 71, worker)
    assert producer.progress().pending == 1
    gate.open()
    until(lambda: producer.progress().ok == 72, worker)
    assert worker.stop() == 0


def test_a_worker_that_is_stopped_puts_back_what_is_late(
    start_worker: StartWorker, producer: Producer, pictures: list[Path], server: WebServer, gate: Gate
) -> None:
    arguments = ("--allow-network", PUBLIC, "--fetch-timeout", "60", "--stall-timeout", "120")
    first = start_worker(*arguments)
    producer.submit_many([Image("late", f"{server.url}/late.jpg"), Image("one", str(pictures[0]))], chunk=2)
    until(lambda: producer.progress().ok == 1, first)
    assert first.stop() == 0
    assert (producer.progress().pending, producer.progress().ok) == (1, 1)
    gate.open()
    second = start_worker(*arguments)
    until(lambda: producer.progress().ok == 2, second)
    assert second.stop() == 0


def test_a_pipeline_that_is_closed_lets_its_process_end(tmp_path: Path, net_folder: Path) -> None:
    """Fetches that wait for bytes in flight are not left waiting for decoders that have ended."""
    for number in range(40):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(1000))
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_late_pictures import *\n"
        "root = Path(sys.argv[2])\n"
        "sources = ImageSources(image_roots=(root,), bytes_in_flight_max=1500)\n"
        "def slowly(data, spec, limits):\n"
        "    time.sleep(0.2)\n"
        "    raise ValueError\n"
        "nets = load_nets([NetChoice(Path(sys.argv[3]))], 'portable')\n"
        "pipeline = Pipeline(nets, References(sources), DEFAULT_LIMITS, threads=Threads(decoding=1), decode=slowly)\n"
        "pipeline.prepare([job(*(root / f'{n}.jpg' for n in range(40)))])\n"
        "time.sleep(0.1)\n"
        "pipeline.close()\n"
    )
    here = Path(__file__).parent
    environment = {"PYTHONPATH": f"{here.parent}:{here}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", script, str(here), str(tmp_path), str(net_folder)]
    subprocess.run(command, check=True, timeout=100, env=environment, capture_output=True)
