"""JSON Lines: each result as the contract has it, with `truth` and `rank` behind it where a label is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import msgspec

from imagequeue.reports.judging import Judged


def write_json_lines(results: Iterable[Judged], output: BinaryIO) -> None:
    """One result per line; without labels they are what `reports.inputs` reads."""
    encoder = msgspec.json.Encoder()
    for one in results:
        if one.truth is None:
            line = encoder.encode(one.result)
        else:
            line = encoder.encode(msgspec.to_builtins(one.result) | {"truth": one.truth, "rank": one.rank})
        output.write(line + b"\n")
