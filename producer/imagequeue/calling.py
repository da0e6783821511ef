"""Scripts by their checksum: one round trip for a call, or for many; the text goes only to a server that lacks it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import redis
from redis.exceptions import NoScriptError

from imagequeue.bridge import answered
from imagequeue.connection import PASSES
from imagequeue.link import BaseLink, Client
from imagequeue.scripts import script_text


@dataclass(frozen=True)
class Call:
    """One call of one of our scripts."""

    script: str
    keys: Sequence[str]
    arguments: Sequence[Any]

    @cached_property
    def command(self) -> tuple[Any, ...]:
        """Made once, however often it is sent."""
        return ("EVALSHA", _sha1(self.script), len(self.keys), *self.keys, *self.arguments)


async def call_script(link: BaseLink, call: Call) -> Any:  # noqa: ANN401  whatever the script returns
    """What the script returns; sent again until Redis has answered. Raises RedisUnavailable or RedisRefused."""
    return await link.ask(lambda client: evaluate(client, call))


async def evaluate(client: Client, call: Call) -> Any:  # noqa: ANN401  whatever the script returns
    """What the script returns. A script that the server does not know has not run, so it is sent again."""
    try:
        return await answered(client.execute_command(*call.command))
    except NoScriptError:
        await answered(client.script_load(script_text(call.script)))
        return await answered(client.execute_command(*call.command))


async def evaluate_all(client: Client, calls: Sequence[Call]) -> list[Any]:
    """What each call returns, or its error, in order; all go in one round trip, each a transaction of its own.

    An error that passes by itself is raised: then all are to be sent again.
    """
    if len(calls) == 1:  # a pipeline of one costs more
        return await evaluate_each(client, calls)
    answers = await _pipelined(client, calls)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for name in {calls[place].script for place in unknown}:
            await answered(client.script_load(script_text(name)))
        again = await _pipelined(client, [calls[place] for place in unknown])
        for place, answer in zip(unknown, again, strict=True):
            answers[place] = answer
    for answer in answers:
        if isinstance(answer, PASSES):
            raise answer
    return answers


async def evaluate_each(client: Client, calls: Sequence[Call]) -> list[Any]:
    """The same one after the other: for a client of one connection, whose pipelines would take another one."""
    answers: list[Any] = []
    for call in calls:
        try:
            answers.append(await evaluate(client, call))
        except PASSES:
            raise
        except redis.ResponseError as error:
            answers.append(error)
    return answers


async def _pipelined(client: Client, calls: Sequence[Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call.command)
    answers: list[Any] = await answered(pipeline.execute(raise_on_error=False))
    return answers


@cache
def _sha1(name: str) -> str:
    """Redis' name for a script."""
    return hashlib.sha1(script_text(name).encode()).hexdigest()  # noqa: S324  the protocol's, no secret
