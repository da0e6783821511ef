"""How the worker logs: structlog to standard error, for people or as JSON; RQ's own lines go the same way.

Every line of a worker process names its worker; jobs, images and collections stand where they are known. What is a
secret by its form is taken out of the finished line, tracebacks included.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Final

import structlog

# The password of an address, up to the last @ before its host; and what addresses carry as keys: signed object stores.
_PASSWORD: Final = re.compile(r"(://[^\s:/?#\"'<>]*):[^\s/\"'<>]*@")
_KEY: Final = re.compile(
    r"([?&](?:password|passwd|secret|token|api_?key|key|sig|signature|X-(?:Amz|Goog)-(?:Signature|Credential|"
    r"Security-Token))=)[^&\s\"'<>]+",
    re.IGNORECASE,
)

_process: dict[str, str] = {}
"""What every line of this process says."""


def name_process(**names: str) -> None:
    """Have every later line of this process, in all of its threads, say this, too."""
    _process.update(names)


def redact_secrets(text: str) -> str:
    """The text without passwords and keys in addresses."""
    return _KEY.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def _add_process(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {**_process, **event}


class _Formatter(structlog.stdlib.ProcessorFormatter):
    def format(self, record: logging.LogRecord) -> str:
        """Render a line, then take out what nobody may read."""
        return redact_secrets(super().format(record))


def configure_logging(level: str, *, json: bool) -> None:
    """Send every line of this process to standard error, from `level` on."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_process,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Without the values of local variables, the defaults' most talkative part: a net takes seconds to print, and an
    # address of Redis may have a password in it.
    as_dict = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    plain = structlog.dev.plain_traceback
    renderer: list[structlog.types.Processor] = (
        [as_dict, structlog.processors.JSONRenderer()]
        if json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    own = logging.getLogger("imagequeue_worker")
    own.setLevel(level.upper())
    # Libraries log a line per command or connection; what an operator must act on, we say ourselves.
    for others in (root, logging.getLogger("rq.worker")):
        others.setLevel(max(logging.WARNING, own.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(own.level),
        cache_logger_on_first_use=True,
    )
