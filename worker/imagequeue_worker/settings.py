"""Every setting of the worker, declared once: its default, flag, environment variable and help."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from imagequeue.connection import DEFAULT_REDIS_URL
from imagequeue.contract import QUEUES
from imagequeue_worker.errors import SettingsError

if TYPE_CHECKING:
    from imagequeue_worker.images import Limits

Command = TypeVar("Command", bound=Callable[..., Any])

CACHE_VARIABLE = "IMAGEQUEUE_CACHE"


class FiniteRange(click.FloatRange):
    """A number of seconds; `nan` passes every comparison, and Redis knows no endless lease."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Refuse nan and inf, too."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return number


class ByteSize(click.ParamType[int, Any]):
    """A number of bytes; `512M` and `2G` are understood, too (powers of 1,024)."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Read one."""
        if isinstance(value, int):
            return value
        written = re.fullmatch(r"(\d+)([KMGT]?)", str(value).strip().upper())
        if written is None:
            self.fail(f"{value!r} is no number of bytes; write 2147483648, 2048M or 2G.", param, ctx)
        return int(written[1]) << 10 * " KMGT".index(written[2] or " ")


class NetworkOption(click.ParamType["IPv4Network | IPv6Network", Any]):
    """A network in CIDR notation, or an address; several in a variable are separated by blanks."""

    name = "CIDR"

    def convert(
        self,
        value: Any,  # noqa: ANN401
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> IPv4Network | IPv6Network:
        """Read one."""
        try:
            return ip_network(value)
        except ValueError as error:
            self.fail(f"{error}; write 10.1.0.0/16 or 2001:db8::/64.", param, ctx)


@dataclass(frozen=True, slots=True)
class NetChoice:
    """A net to load: its folder, and the name that requests choose it by (None: what its folder says)."""

    folder: Path
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.name}={self.folder}" if self.name else str(self.folder)


class NetOption(click.ParamType[NetChoice, Any]):
    """`FOLDER` or `NAME=FOLDER`; several in a variable are separated as paths are."""

    name = "[NAME=]FOLDER"
    envvar_list_splitter = os.pathsep

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NetChoice:  # noqa: ANN401
        """Read one; the folder must be there."""
        if isinstance(value, NetChoice):
            return value
        name, separator, folder = str(value).partition("=")
        # A folder's own name may have a sign of equality in it.
        if not separator or "/" in name:
            name, folder = "", str(value)
        path: Path = FOLDER.convert(folder, param, ctx)
        return NetChoice(path, name or None)


FOLDER = click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True)


def setting(default: Any, type_: Any, help_: str, *, flag: str = "", multiple: bool = False) -> Any:  # noqa: ANN401  a field of any type
    """A field of Settings, with what its command-line option needs."""
    metadata = {"type": type_, "help": help_, "flag": flag, "multiple": multiple}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a worker process is told; read once, at its start."""

    redis_url: str = setting(
        DEFAULT_REDIS_URL, str, "Redis: redis://, rediss://, unix:// or redis+sentinel://host,host/service"
    )
    queues: tuple[str, ...] = setting(QUEUES, str, "A queue to serve, most urgent first", flag="--queue", multiple=True)
    nets: tuple[NetChoice, ...] = setting(
        (),
        NetOption(),
        "A net to hold, the first being the default; without one, the zoo's",
        flag="--net",
        multiple=True,
    )
    engine: str = setting("auto", str, "Engine that runs the net; see `imagequeue-worker info`")
    image_roots: tuple[Path, ...] = setting(
        (),
        FOLDER,
        "Folder below which paths may be read; without one, paths are refused",
        flag="--image-root",
        multiple=True,
    )
    processes: int = setting(0, click.IntRange(min=0), "Worker processes; 0: one per core that it may use")
    batch_images: int = setting(32, click.IntRange(1, 1024), "Images taken at once, at most")
    max_wait_ms: int = setting(0, click.IntRange(0, 60_000), "Milliseconds to wait for a fuller batch; 0: never wait")
    fetch_concurrency: int = setting(32, click.IntRange(1, 1024), "References fetched at once, per process")
    fetch_per_host: int = setting(8, click.IntRange(1, 1024), "Of these, from one host")
    fetch_timeout: float = setting(
        15.0, FiniteRange(min=0.1), "Seconds for one reference, redirects included; at most half of --stall-timeout"
    )
    max_redirects: int = setting(5, click.IntRange(0, 100), "Redirects that are followed")
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        (),
        NetworkOption(),
        "Network, such as 10.1.0.0/16, that may be fetched from beside public addresses",
        flag="--allow-network",
        multiple=True,
    )
    decode_threads: int = setting(2, click.IntRange(1, 64), "Threads that decode, per process")
    lease_seconds: float = setting(9.0, FiniteRange(min=1.0), "A job is taken back when not renewed for this long")
    losses_max: int = setting(
        10, click.IntRange(min=1), "Leases that a job may lose before its images end as worker_lost"
    )
    isolation_seconds: float = setting(
        30.0, FiniteRange(min=0.1), "Seconds that one image of a suspect job may take, alone in a process"
    )
    isolation_memory: int = setting(
        2 << 30, ByteSize(), "Memory that such a process may use beyond what the worker has, in bytes"
    )
    retries_max: int = setting(3, click.IntRange(0, 100), "Further tries for an image whose bytes could not be fetched")
    retry_seconds: float = setting(1.0, FiniteRange(min=0.0), "Seconds before the first of them; doubled for each next")
    max_memory: int = setting(
        0, ByteSize(), "Resident bytes above which a process is replaced between batches; 0: never"
    )
    stall_timeout: float = setting(30.0, FiniteRange(min=1.0), "Seconds without progress after which a process ends")
    grace: float = setting(25.0, FiniteRange(min=0.0), "Seconds that work in flight has after SIGTERM")
    result_ttl: int = setting(86_400, click.IntRange(min=1), "Seconds that a result is kept")
    max_image_bytes: int = setting(64 << 20, click.IntRange(min=1), "Largest image file, in bytes")
    max_bytes_in_flight: int = setting(256 << 20, ByteSize(), "Bytes of images being fetched and decoded, per process")
    max_pixels: int = setting(100_000_000, click.IntRange(min=1), "Largest image, in pixels")
    max_side: int = setting(65_535, click.IntRange(min=1), "Longest side of an image, in pixels")
    max_frames: int = setting(10_000, click.IntRange(min=1), "Frames of an animation, of which the first is classified")
    metrics_host: str = setting("127.0.0.1", str, "Address that serves /metrics")
    metrics_port: int = setting(9109, click.IntRange(0, 65_535), "Port that serves /metrics; 0: none")
    tracing: bool = setting(False, bool, "Send OpenTelemetry spans; OTEL_… variables say where to")
    log_level: str = setting("info", click.Choice(["debug", "info", "warning", "error"]), "Least severe log line")
    log_json: bool = setting(False, bool, "Log JSON, one object per line")

    @property
    def limits(self) -> Limits:
        """What is refused as too large."""
        from imagequeue_worker.images import Limits

        return Limits(self.max_image_bytes, self.max_pixels, self.max_side, self.max_frames)

    @classmethod
    def from_environment(cls) -> Settings:
        """The settings as the environment has them, for a worker that `rq worker` starts.

        Raises SettingsError when a variable has a value that cannot be used.
        """
        command = click.Command("settings", params=[option_of(field) for field in dataclasses.fields(cls)])
        try:
            return cls(**command.make_context("settings", []).params)
        except click.ClickException as error:
            raise SettingsError(error.format_message()) from error


def variable_of(field: dataclasses.Field[Any]) -> str:
    """The environment variable of a setting: its flag's name in capitals."""
    return "IMAGEQUEUE_" + flag_of(field).removeprefix("--").replace("-", "_").upper()


def flag_of(field: dataclasses.Field[Any]) -> str:
    """The flag of a setting."""
    return str(field.metadata["flag"] or "--" + field.name.replace("_", "-"))


def option_of(field: dataclasses.Field[Any]) -> click.Option:
    """The click option of a setting; several values are split at blanks (queues) or path separators in a variable."""
    return click.Option(
        [flag_of(field), field.name],
        default=field.default,
        type=field.metadata["type"],
        multiple=field.metadata["multiple"],
        is_flag=field.metadata["type"] is bool,
        envvar=variable_of(field),
        help=field.metadata["help"],
        show_default=True,
        show_envvar=True,
    )


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Give a click command the options of these settings, or of all."""
    fields = [field for field in dataclasses.fields(Settings) if not names or field.name in names]

    def decorate(command: Command) -> Command:
        parameters = command.__dict__.setdefault("__click_params__", [])
        parameters.extend(option_of(field) for field in reversed(fields))
        return command

    return decorate
