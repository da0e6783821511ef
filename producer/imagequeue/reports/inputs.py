"""Results out of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from imagequeue import contract
from imagequeue.contract import Result
from imagequeue.errors import ConfigurationError, ContractError


def from_json_lines(lines: Iterable[bytes], name: str) -> Iterator[Result]:
    """The results that `imagequeue results --json` or `submit --wait --json` printed; empty lines are skipped.

    Raises ContractError, with the line's number, at one that is no result.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield contract.decode_result(line)
            except ContractError as error:
                raise ContractError(
                    f"{name}:{number}: {error}; lines of `imagequeue results --json` are read"
                ) from error


def from_file(path: Path) -> Iterator[Result]:
    """The results of a JSON Lines file; raise ConfigurationError when it cannot be read, else as above."""
    try:
        with path.open("rb") as file:
            yield from from_json_lines(file, str(path))
    except OSError as error:
        raise ConfigurationError(f"results {path} cannot be read: {error.strerror or error}") from error
