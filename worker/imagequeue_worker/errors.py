"""What the worker's side raises, apart from `caffe2.errors`.

WorkerError
├── SettingsError         a setting has a value that cannot be used
├── NetUnavailable        no net could be found or fetched
├── ServerUnavailable     the embedded server cannot run here
├── ToolUnavailable       a tool of RQ's is not installed
├── IsolationUnavailable  the process that isolates suspect images is gone
└── ImageError            one image cannot be classified: carries the code of its result
"""

from __future__ import annotations

from imagequeue.contract import ErrorCode


class WorkerError(Exception):
    """The root: catch this to catch everything that the worker raises on purpose."""


class SettingsError(WorkerError):
    """Raised when a setting has a value that cannot be used; the message names the setting."""


class NetUnavailable(WorkerError):  # noqa: N818  names the state
    """Raised when no net is at hand: none named, none cached, none fetched."""


class ServerUnavailable(WorkerError):  # noqa: N818  names the state
    """Raised when the embedded server is not installed or does not start."""


class ToolUnavailable(WorkerError):  # noqa: N818  names the state
    """Raised when a tool of RQ's that a command is to run is not installed; the message names its package."""


class IsolationUnavailable(WorkerError):  # noqa: N818  names the state
    """Raised when the process that runs suspect images alone does not answer; the worker ends, and is replaced."""


class ImageError(WorkerError):
    """Raised when one image cannot be classified; becomes its `error` result, and harms no other image."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
