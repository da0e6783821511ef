"""THE wire contract: queue names, key names, messages, results, error codes.

Everything on the wire is JSON, so that any language can produce and consume. This module imports neither redis
nor rq: it can be read, and used, alone. The states a key may be in are described in the scripts beside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from imagequeue.errors import ConfigurationError, ContractError

# --- names ---------------------------------------------------------------------------------------------------------

VERSION: Final = 1
TASK: Final = "imagequeue_worker.tasks.classify"
QUEUES: Final = ("classify-high", "classify", "classify-low")  # most urgent first
DEFAULT_COLLECTION: Final = "default"
IMAGES_PER_JOB_MAX: Final = 64
IMAGES_PER_JOB: Final = 16  # unless a producer asks otherwise: cheap enough, and spread over the fleet
TOP_K_MAX: Final = 1000
ID_BYTES_MAX: Final = 512
REF_BYTES_MAX: Final = 1 << 20  # `data:` references carry their bytes

_PREFIX = re.compile(r"[A-Za-z0-9_.:{}-]+")
COLLECTION_PATTERN: Final = r"[A-Za-z0-9_.-]{1,128}"
ID_FORBIDDEN_PATTERN: Final = r"[\x00-\x1f\x7f]"  # job hashes join ids by newline
_COLLECTION = re.compile(COLLECTION_PATTERN)
_ID_FORBIDDEN = re.compile(ID_FORBIDDEN_PATTERN)


def _prefix(variable: str, default: str) -> str:
    """Read a key prefix from the environment; raise ConfigurationError when Redis keys could not carry it."""
    value = os.environ.get(variable, default)
    if not _PREFIX.fullmatch(value):
        raise ConfigurationError(f"{variable} is {value!r}; only letters, digits and _ . : - {{ }} are allowed")
    return value


# Read once, at import, as rq does: on a cluster every process sets RQ_KEY_PREFIX='{rq}' before it starts.
RQ_KEY_PREFIX: Final = _prefix("RQ_KEY_PREFIX", "rq")
KEY_PREFIX: Final = _prefix("IMAGEQUEUE_KEY_PREFIX", "imagequeue")

COLLECTIONS_KEY: Final = f"{KEY_PREFIX}:collections"
WAITING_KEY: Final = f"{KEY_PREFIX}:waiting"
PAUSED_KEY: Final = f"{KEY_PREFIX}:paused"
RATES_KEY: Final = f"{KEY_PREFIX}:rates"


def pending_key(collection: str) -> str:
    """Hash: image id -> `queue|job`, the owner; only that job may classify or publish the image."""
    return f"{KEY_PREFIX}:pending:{collection}"


def results_key(collection: str) -> str:
    """Hash: image id -> result (JSON); every field expires."""
    return f"{KEY_PREFIX}:results:{collection}"


def completed_key(collection: str) -> str:
    """Stream: one entry per published result, trimmed by age."""
    return f"{KEY_PREFIX}:completed:{collection}"


def totals_key(collection: str) -> str:
    """Hash: `accepted`, `ok`, `error`; counters that never go back."""
    return f"{KEY_PREFIX}:totals:{collection}"


def dead_key(collection: str) -> str:
    """Hash: image id -> its one-image request, for errors that can be requeued."""
    return f"{KEY_PREFIX}:dead:{collection}"


def blob_key(sha256: str) -> str:
    """String: uploaded bytes, with an expiry."""
    return f"{KEY_PREFIX}:blob:{sha256}"


def turn_key(what: str) -> str:
    """String that expires: the worker whose turn it is to do what one worker does every so many seconds."""
    return f"{KEY_PREFIX}:turn:{what}"


def job_key(job: str) -> str:
    """Hash: RQ's job."""
    return f"{RQ_KEY_PREFIX}:job:{job}"


def queue_key(queue: str) -> str:
    """List: RQ's queue, head first."""
    return f"{RQ_KEY_PREFIX}:queue:{queue}"


def new_job_id() -> str:
    """128 random bits, chosen once per call and reused when the call is resent."""
    return f"iq-{secrets.token_hex(16)}"


def image_id(ref: str) -> str:
    """The default id of an image: a hash of its reference, so that submitting it twice is submitting it once."""
    return hashlib.sha256(ref.encode("utf-8", "surrogatepass")).hexdigest()[:32]


# --- enumerations --------------------------------------------------------------------------------------------------


class Priority(StrEnum):
    """How urgent a submission is; each has a queue of its own."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def queue(self) -> str:
        """The RQ queue that carries this priority."""
        return QUEUES[list(Priority).index(self)]


class Status(StrEnum):
    """How an image ended."""

    OK = "ok"
    ERROR = "error"


class ErrorCode(StrEnum):
    """Why an image has no classes. The value is the wire form; new codes may join, none changes its meaning."""

    NOT_FOUND = "not_found"  # nothing is there under that reference
    FORBIDDEN = "forbidden"  # the worker's rules do not allow this reference, or this job
    TOO_LARGE = "too_large"  # more bytes, pixels or sides than the worker's limits
    UNSUPPORTED_FORMAT = "unsupported_format"  # bytes that are no image, or no format that is read
    UNSUPPORTED_REFERENCE = "unsupported_reference"  # a kind of reference that this worker does not know
    CORRUPT = "corrupt"  # an image that is truncated or damaged
    FETCH_TIMEOUT = "fetch_timeout"  # the bytes did not come in time
    FETCH_FAILED = "fetch_failed"  # the bytes could not be read
    TOO_MANY_REDIRECTS = "too_many_redirects"  # a server sent on to another address more often than the worker follows
    UNKNOWN_MODEL = "unknown_model"  # the request names a net that this worker does not hold
    UNSUPPORTED_VERSION = "unsupported_version"  # a request of another contract version
    MALFORMED_REQUEST = "malformed_request"  # a job whose request cannot be read
    EXPIRED = "expired"  # the request's time was up before a worker took it
    CANCELLED = "cancelled"  # withdrawn by its owner
    WORKER_LOST = "worker_lost"  # workers died on it too often
    INTERNAL = "internal"  # a defect of the worker; its log has the traceback


# Not worth asking for again: these are what their owner wanted.
NOT_REQUEUED: Final = frozenset({ErrorCode.EXPIRED, ErrorCode.CANCELLED})
# What may pass by itself: workers try again, a few times, before it becomes the result.
TRANSIENT: Final = frozenset({ErrorCode.FETCH_TIMEOUT, ErrorCode.FETCH_FAILED})


# --- messages ------------------------------------------------------------------------------------------------------

Seconds = float
"""A duration, or a Unix time by Redis' clock."""


class Image(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image of a request: its id within the collection, and where its bytes are."""

    id: str
    ref: str


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a job carries. Unknown fields are ignored, so that newer producers can add some."""

    images: Annotated[tuple[Image, ...], msgspec.Meta(min_length=1, max_length=IMAGES_PER_JOB_MAX)]
    version: int = VERSION
    collection: str = DEFAULT_COLLECTION
    model: str | None = None  # None: the worker's first net
    top_k: Annotated[int, msgspec.Meta(ge=1, le=TOP_K_MAX)] = 5
    expires_in: Annotated[float, msgspec.Meta(gt=0)] | None = None  # seconds after Redis accepted it
    # W3C traceparent of the submission, where its producer is traced; not written where it is not.
    trace: str | msgspec.UnsetType = msgspec.UNSET


class ClassScore(msgspec.Struct, frozen=True):
    """One class of a result."""

    index: int
    wnid: str | None
    label: str
    probability: float


class Failure(msgspec.Struct, frozen=True):
    """Why an image has no classes. The code stays a string: an older reader meets newer codes."""

    code: str
    message: str


class Model(msgspec.Struct, frozen=True):
    """The net that answered: its name and the checksum of its files."""

    name: str
    sha256: str


class StageSeconds(msgspec.Struct, frozen=True):
    """How long an image spent where."""

    queue: Seconds = 0.0
    fetch: Seconds = 0.0
    decode: Seconds = 0.0
    infer: Seconds = 0.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A result as the worker writes it; the gate appends `entry`, `job` and `finished_at`."""

    id: str
    ref: str
    status: Status
    classes: tuple[ClassScore, ...] = ()  # best first; ties by lower index
    error: Failure | None = None
    model: Model | None = None
    worker: str = ""
    attempt: int = 0
    submitted_at: Seconds = 0.0
    seconds: StageSeconds = StageSeconds()


class Result(Outcome, frozen=True, kw_only=True):
    """A result as readers see it in the results hash."""

    entry: str  # its id in the completion stream
    job: str
    finished_at: Seconds


class _Keywords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keyword arguments of a job."""

    request: Request


_encoder = msgspec.json.Encoder()
_request_decoder = msgspec.json.Decoder(Request)
_result_decoder = msgspec.json.Decoder(Result)
_version_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
# RQ's job data: [function, instance, args, kwargs].
_job_decoder = msgspec.json.Decoder(tuple[str, None, tuple[()], dict[str, msgspec.Raw]])
# The same in one go: a third of the time.
_usual_decoder = msgspec.json.Decoder(tuple[str, None, tuple[()], _Keywords])


def check_collection(collection: str) -> str:
    """Return the name if Redis keys can carry it; raise ContractError otherwise."""
    if not _COLLECTION.fullmatch(collection):
        raise ContractError(f"collection is {collection[:80]!r}; 1 to 128 letters, digits, _ . - are allowed")
    return collection


def check_image(image: Image) -> Image:
    """Return the image if its id and reference fit; raise ContractError otherwise."""
    if not image.id or _is_longer(image.id, ID_BYTES_MAX):
        raise ContractError(f"image id {image.id[:40]!r} has {len(image.id)} characters; 1 to {ID_BYTES_MAX} bytes fit")
    if _ID_FORBIDDEN.search(image.id):
        raise ContractError(f"image id {image.id[:80]!r} has a control character; use printable characters")
    if not image.ref:
        raise ContractError(f"image {image.id!r} has an empty reference; give a path or a URL")
    if _is_longer(image.ref, REF_BYTES_MAX):
        raise ContractError(f"image {image.id!r} has a reference above {REF_BYTES_MAX} bytes; upload the bytes instead")
    return image


def _is_longer(text: str, bytes_max: int) -> bool:
    """Whether its UTF-8 has more bytes than that; encoded only where four bytes per character might be too many."""
    return 4 * len(text) > bytes_max and len(text.encode("utf-8", "replace")) > bytes_max


def check_request(request: Request) -> Request:
    """Return the request if it follows the contract; raise ContractError otherwise."""
    if request.version != VERSION:
        raise ContractError(
            f"request has version {request.version}; this side reads version {VERSION}; update the older side",
            ErrorCode.UNSUPPORTED_VERSION,
        )
    check_collection(request.collection)
    for image in request.images:
        check_image(image)
    if len({image.id for image in request.images}) != len(request.images):
        raise ContractError("a request names an image id twice; ids are unique within a request")
    return request


def encode_job(request: Request) -> bytes:
    """The `data` of the RQ job that carries this request; raise ContractError when it breaks the contract."""
    return encode_checked_job(check_request(request))


def encode_checked_job(request: Request) -> bytes:
    """The same for a request whose parts have been checked already."""
    try:
        return _encoder.encode((TASK, None, (), {"request": request}))
    except UnicodeEncodeError as error:
        raise ContractError(f"a reference or id is not valid Unicode ({error.reason}); re-encode it") from error


def decode_request(text: bytes | str) -> Request:
    """Read a request; raise ContractError with `malformed_request` or `unsupported_version`."""
    try:
        # The version comes first: another version may have other fields.
        version = _version_decoder.decode(text).get("version")
        if version is not None and bytes(version) != str(VERSION).encode():
            raise ContractError(
                f"request has version {bytes(version)[:20]!r}; this side reads version {VERSION}",
                ErrorCode.UNSUPPORTED_VERSION,
            )
        return check_request(_request_decoder.decode(text))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"request cannot be read: {error}") from error


def decode_job(data: bytes) -> Request:
    """Read the request out of an RQ job's (decompressed) data; raise ContractError, also for other functions."""
    try:
        function, _, _, call = _usual_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_unusual_job(data)
    return check_request(call.request) if function == TASK else _decode_unusual_job(data)


def _decode_unusual_job(data: bytes) -> Request:
    """The same part by part, to say what is wrong."""
    try:
        function, _, _, keywords = _job_decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"job data cannot be read: {error}") from error
    if function != TASK:
        raise ContractError(f"job names {function[:80]!r}; workers run {TASK} only", ErrorCode.FORBIDDEN)
    if set(keywords) != {"request"}:
        raise ContractError(f"job has the keywords {sorted(keywords)[:5]}; exactly `request` is expected")
    return decode_request(bytes(keywords["request"]))


def encode_outcome(outcome: Outcome) -> bytes:
    """The JSON text that the gate completes: a non-empty object, so that `,"entry":…}` can be appended."""
    return _encoder.encode(outcome)


def encode_request(request: Request) -> bytes:
    """The request alone, as dead letters keep it."""
    return _encoder.encode(request)


def decode_result(text: bytes) -> Result:
    """Read a result out of the results hash; raise ContractError when it is none."""
    try:
        return _result_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError(f"result cannot be read: {error}") from error
