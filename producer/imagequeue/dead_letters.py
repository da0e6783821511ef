"""Dead letters: images that ended in an error, and whose requests are kept so that they can be sent again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from imagequeue import contract
from imagequeue.contract import ErrorCode, Result, Seconds
from imagequeue.errors import ConfigurationError
from imagequeue.link import Link
from imagequeue.parts import batches, scan
from imagequeue.scripts import script_text

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


def read_letters(link: Link, collection: str, ids: Iterable[str] | None, code: str | None) -> Iterator[Letter]:
    """The dead letters of a collection, in no order, or of the ids, in theirs; only those with this error code.

    Each comes once, also if it is requeued and dies again meanwhile. Raises ContractError at an unreadable result.
    """
    seen: set[str] = set()
    for found in _requests(link, collection, ids):
        new = {id_: request for id_, request in found.items() if id_ not in seen}
        seen.update(new)
        texts = _texts(link, contract.results_key(collection), list(new))
        for text, request in zip(texts, new.values(), strict=True):
            if text is not None:
                result = contract.decode_result(text)
                if result.error is not None and code in (None, result.error.code):
                    yield Letter(request, result)


def discard_letters(link: Link, collection: str, letters: Iterable[Letter]) -> int:
    """Forget dead letters; return how many there were. One that has been sent again since it was read stays."""
    script = link.client.register_script(script_text("discard"))
    keys = [contract.results_key(collection), contract.dead_key(collection)]

    def discard(cells: list[str]) -> int:
        return int(link.call(lambda _: script(keys=keys, args=cells)))

    return sum(
        discard([cell for letter in batch for cell in (letter.result.id, letter.result.entry)])
        for batch in batches(letters, DISCARDED_PER_CALL)
    )


def check_code(code: str | None) -> str | None:
    """Return the code if the contract has it; raise ConfigurationError otherwise, since nothing would be found."""
    if code is not None and code not in list(ErrorCode):
        raise ConfigurationError(f"code is {code!r}; choose {', '.join(ErrorCode)}")
    return code


def _requests(link: Link, collection: str, ids: Iterable[str] | None) -> Iterator[dict[str, bytes]]:
    key = contract.dead_key(collection)
    if ids is None:
        for found in scan(link, key, READ_PER_CALL):
            yield {id_.decode(): request for id_, request in found.items()}
        return
    for batch in batches(ids, READ_PER_CALL):
        texts = _texts(link, key, batch)
        yield {id_: request for id_, request in zip(batch, texts, strict=True) if request is not None}


def _texts(link: Link, key: str, ids: list[str]) -> list[bytes | None]:
    return link.call(lambda client: client.hmget(key, ids)) if ids else []
