"""Dead letters: images that ended in an error, and whose requests are kept so that they can be sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from imagequeue import contract
from imagequeue.calling import Call, call_script
from imagequeue.contract import ErrorCode, Result, Seconds
from imagequeue.errors import ConfigurationError
from imagequeue.link import BaseLink
from imagequeue.parts import Items, batches_of, read_fields, scan

READ_PER_CALL = 100  # references may be large, and a letter holds its twice: in request and result
DISCARDED_PER_CALL = 1_000


class DeadLetter(msgspec.Struct, frozen=True):
    """One image that ended in an error: its last one, in the attempt that was the last, finished by Redis' clock."""

    id: str
    ref: str
    code: str
    message: str
    attempt: int
    finished_at: Seconds
    collection: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it lies in Redis: its request (JSON), and the result that it belongs to."""

    request: bytes
    result: Result

    def shown(self, collection: str) -> DeadLetter:
        """What people are told of it."""
        error, result = self.result.error, self.result
        code, message = (error.code, error.message) if error else ("", "")
        return DeadLetter(result.id, result.ref, code, message, result.attempt, result.finished_at, collection)


async def read_letters(
    link: BaseLink, collection: str, ids: Items[str] | None, code: str | None
) -> AsyncIterator[Letter]:
    """The dead letters of a collection, in no order, or of the ids, in theirs; only those with this error code.

    Each comes once, also if it is requeued and dies again meanwhile. Raises ContractError at an unreadable result.
    """
    seen: set[str] = set()
    async for found in _requests(link, collection, ids):
        new = {id_: request for id_, request in found.items() if id_ not in seen}
        seen.update(new)
        texts = await read_fields(link, contract.results_key(collection), list(new))
        for text, request in zip(texts, new.values(), strict=True):
            if text is not None:
                result = contract.decode_result(text)
                if result.error is not None and code in (None, result.error.code):
                    yield Letter(request, result)


async def discard_letters(link: BaseLink, collection: str, letters: Items[Letter]) -> int:
    """Forget dead letters; return how many went. One that has been sent again since it was read stays."""
    keys = [contract.results_key(collection), contract.dead_key(collection)]
    discarded = 0
    async for batch in batches_of(letters, DISCARDED_PER_CALL):
        call = Call("discard", keys, [cell for letter in batch for cell in (letter.result.id, letter.result.entry)])
        discarded += await call_script(link, call)
    return discarded


def check_code(code: str | None) -> str | None:
    """Return the code if the contract has it; raise ConfigurationError otherwise, since nothing would be found."""
    if code is not None and code not in list(ErrorCode):
        raise ConfigurationError(f"code is {code!r}; choose {', '.join(ErrorCode)}")
    return code


async def _requests(link: BaseLink, collection: str, ids: Items[str] | None) -> AsyncIterator[dict[str, bytes]]:
    key = contract.dead_key(collection)
    if ids is None:
        async for found in scan(link, key, READ_PER_CALL):
            yield {id_.decode(): request for id_, request in found.items()}
        return
    async for batch in batches_of(ids, READ_PER_CALL):
        texts = await read_fields(link, key, batch)
        yield {id_: request for id_, request in zip(batch, texts, strict=True) if request is not None}
