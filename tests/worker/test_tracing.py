"""One trace from the application that submits to the result: real Redis, a real worker, spans kept in memory."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from opentelemetry.util._once import Once
from prometheus_client import CollectorRegistry

from imagequeue import Image, Producer, Status
from imagequeue.contract import QUEUES, Request, decode_job, job_key
from imagequeue_worker.batch_worker import BatchWorker
from imagequeue_worker.metrics import Metrics
from imagequeue_worker.nets import Nets, load_nets
from imagequeue_worker.settings import NetChoice, Settings
from imagequeue_worker.tracing import Tracing
from ports import free_port
from worker_process import StartWorker, run_cli

STAGES = {"queue", "fetch", "decode", "infer", "finish"}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    ours = TracerProvider()
    ours.add_span_processor(SimpleSpanProcessor(spans))
    return ours


@pytest.fixture
def traced_application(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that submits uses OpenTelemetry; for this test alone."""
    use(provider, monkeypatch)


def use(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())


@pytest.fixture(scope="module")
def nets(net_folder: Path) -> Nets:
    return load_nets([NetChoice(net_folder)], "auto")


@pytest.fixture
def worker(
    connection: redis.Redis, nets: Nets, pictures: list[Path], provider: TracerProvider
) -> Iterator[BatchWorker]:
    """A worker of this process that is traced; it works until the queues are empty."""

    class Traced(BatchWorker):
        settings = Settings(image_roots=(pictures[0].parent,), tracing=True, retries_max=0)
        metrics = Metrics(CollectorRegistry())
        start_tracing = staticmethod(lambda name: Tracing(provider))

    Traced.nets = nets
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Traced(list(QUEUES), connection=connection)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def request_of(connection: redis.Redis, job: str | None) -> Request:
    return decode_job(connection.hget(job_key(str(job)), "data"))


# --- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("traced_application")
def test_one_trace_leads_from_the_application_to_every_stage_of_every_image(
    producer: Producer, worker: BatchWorker, provider: TracerProvider, spans: InMemorySpanExporter, pictures: list[Path]
) -> None:
    with provider.get_tracer("application").start_as_current_span("request") as request:
        images = [Image(str(number), str(picture)) for number, picture in enumerate(pictures)]
        producer.submit_many(images, chunk=8, collection="c")
    worker.work(burst=True)
    (submit,) = named(spans, "submit")
    assert submit.parent == request.get_span_context()
    assert submit.kind is SpanKind.PRODUCER
    found = named(spans, "image")
    assert {span.attributes["messaging.message.id"] for span in found} == {"0", "1", "2"}
    for image in found:
        assert image.context.trace_id == request.get_span_context().trace_id
        assert image.parent.span_id == submit.context.span_id
        assert image.attributes["imagequeue.collection"] == "c"
        stages = {span.name: span for span in spans.get_finished_spans() if span.parent == image.context}
        assert stages.keys() == STAGES
        for stage in stages.values():
            assert image.start_time <= stage.start_time <= stage.end_time <= image.end_time
        in_order = [stages[name].start_time for name in ("queue", "fetch", "decode", "infer", "finish")]
        assert in_order == sorted(in_order)


@pytest.mark.usefixtures("traced_application")
def test_a_batch_links_to_its_images(
    producer: Producer, worker: BatchWorker, spans: InMemorySpanExporter, pictures: list[Path]
) -> None:
    for number in range(3):
        producer.submit(pictures[number], id=str(number))
    worker.work(burst=True)
    batches, images = named(spans, "batch"), named(spans, "image")
    links = [link.context.span_id for batch in batches for link in batch.links]
    assert sorted(links) == sorted(image.context.span_id for image in images)
    assert len(images) == 3
    assert all(batch.parent is None for batch in batches)
    assert sum(batch.attributes["imagequeue.images"] for batch in batches) == 3


@pytest.mark.usefixtures("traced_application")
def test_an_image_that_fails_is_an_error_without_the_stages_it_never_reached(
    producer: Producer, worker: BatchWorker, spans: InMemorySpanExporter, pictures: list[Path]
) -> None:
    producer.submit(f"{pictures[0]}.gone", id="x")
    worker.work(burst=True)
    (image,) = named(spans, "image")
    assert image.status.status_code is StatusCode.ERROR
    assert image.attributes["error.type"] == "not_found"
    stages = {span.name for span in spans.get_finished_spans() if span.parent == image.context}
    assert stages == {"queue", "fetch", "finish"}


# --- who is traced, and who is not -----------------------------------------------------------------------------------


def test_without_a_trace_nothing_is_written_and_nothing_recorded(
    producer: Producer, worker: BatchWorker, spans: InMemorySpanExporter, connection: redis.Redis, pictures: list[Path]
) -> None:
    job = producer.submit(pictures[0], id="x").job
    assert b"trace" not in connection.hget(job_key(str(job)), "data")
    worker.work(burst=True)
    assert producer.result("x").status is Status.OK
    assert spans.get_finished_spans() == ()


def test_what_the_producer_does_not_sample_the_worker_does_not_record(
    producer: Producer, worker: BatchWorker, spans: InMemorySpanExporter, connection: redis.Redis, pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    use(TracerProvider(sampler=ALWAYS_OFF), monkeypatch)
    job = producer.submit(pictures[0], id="x").job
    flags = int(str(request_of(connection, job).trace)[-2:], 16)
    assert flags & TraceFlags.SAMPLED == 0
    worker.work(burst=True)
    assert producer.result("x").status is Status.OK
    assert spans.get_finished_spans() == ()


@pytest.mark.parametrize("text", ["", "nonsense", f"00-{'0' * 32}-{'1' * 16}-01", "é" * 100])
def test_a_trace_that_is_none_harms_no_image(
    producer: Producer, worker: BatchWorker, spans: InMemorySpanExporter, connection: redis.Redis, pictures: list[Path],
    text: str,
) -> None:  # fmt: skip
    job = str(producer.submit(pictures[0], id="x").job)
    function, *rest, keywords = msgspec.json.decode(connection.hget(job_key(job), "data"))
    keywords["request"]["trace"] = text
    connection.hset(job_key(job), "data", msgspec.json.encode([function, *rest, keywords]))
    worker.work(burst=True)
    assert producer.result("x").status is Status.OK
    assert spans.get_finished_spans() == ()


SENDINGS: dict[str, Callable[[Producer], object]] = {
    "submit": lambda producer: producer.submit("/x.jpg"),
    "submit_many": lambda producer: producer.submit_many(["/x.jpg", "/y.jpg"], chunk=1),
}


@pytest.mark.parametrize(("method", "jobs"), [("submit", 1), ("submit_many", 2)])
@pytest.mark.usefixtures("traced_application")
def test_a_submission_that_fails_ends_its_spans_as_errors(spans: InMemorySpanExporter, method: str, jobs: int) -> None:
    from imagequeue import RedisUnavailable

    with Producer(f"redis://127.0.0.1:{free_port()}/0", patience=0) as nobody, pytest.raises(RedisUnavailable):
        SENDINGS[method](nobody)
    submits = named(spans, "submit")
    assert [submit.status.status_code for submit in submits] == [StatusCode.ERROR] * jobs
    assert {submit.status.description for submit in submits} == {"RedisUnavailable"}


NOT_INSTALLED = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            frame = sys._getframe(1)
            while "importlib" in frame.f_code.co_filename:
                frame = frame.f_back
            asked.add(frame.f_globals["__name__"].partition(".")[0])
            raise ModuleNotFoundError(name, name=name)

asked = set()
sys.meta_path.insert(0, Missing())
import imagequeue_worker.batch_worker, imagequeue_worker.supervisor
from imagequeue import Producer
Producer(sys.argv[1]).submit("/x.jpg")
print(sorted(asked))
"""


def test_nothing_of_ours_imports_opentelemetry_where_it_is_not_set_up(redis_url: str, connection: redis.Redis) -> None:
    """redis-py looks for it by itself."""
    done = subprocess.run([sys.executable, "-c", NOT_INSTALLED, redis_url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['redis']")
    assert connection.hlen("imagequeue:pending:default") == 1


def test_tracing_without_its_packages_is_one_line(tmp_path: Path, net_folder: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # stands before the real one, and has nothing in it
    done = run_cli("run", "--tracing", "--net", net_folder, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "imagequeue[otel]" in done.stderr


# --- the real exporter -----------------------------------------------------------------------------------------------


class Collector(BaseHTTPRequestHandler):
    """Takes spans by OTLP over HTTP, as the collector of OpenTelemetry does."""

    received: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        data = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.received.append((self.path, data))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  http.server's name
        pass


@pytest.mark.usefixtures("traced_application")
def test_a_worker_process_sends_its_spans_to_where_opentelemetrys_variables_say(
    producer: Producer, start_worker: StartWorker, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Collector.received.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        worker = start_worker("--tracing")
        producer.submit(pictures[0], id="the image")
        assert producer.wait(["the image"], timeout=60)["the image"].status is Status.OK
        assert worker.stop() == 0  # which sends what is left
        server.shutdown()
    assert {path for path, _ in Collector.received} == {"/v1/traces"}
    sent = b"".join(data for _, data in Collector.received)
    for text in (b"the image", b"imagequeue-worker", b"decode", b"batch"):
        assert text in sent


def test_a_collector_that_is_away_keeps_nothing_waiting(
    producer: Producer, start_worker: StartWorker, pictures: list[Path], monkeypatch: pytest.MonkeyPatch,
    provider: TracerProvider,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    use(provider, monkeypatch)
    worker = start_worker("--tracing", "--grace", "60")
    producer.submit(pictures[0], id="x")
    assert producer.wait(["x"], timeout=60)["x"].status is Status.OK
    assert worker.stop() == 0
