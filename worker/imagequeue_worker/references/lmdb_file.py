"""One record out of an LMDB file, by its key: a bounded reader of the few structures that a look-up meets.

LMDB's own library maps the file and trusts it: of 60 damaged files, 20 ended the process with a signal. Here every page
is read and every offset is checked, so that a damaged file is an error; and no lock is taken, so the file may lie on a
read-only disk. Layout: `mdb.c` of LMDB 0.9 (data version 1, 64 bit, little endian).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_PAGE_HEADER: Final = struct.Struct("<QHHHH")  # page number, pad, flags, lower, upper
_NODE_HEADER: Final = struct.Struct("<HHHH")  # low, high, flags, key's size
_META: Final = struct.Struct("<IIQQ")  # magic, version, address, map's size
_TREE: Final = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_BIG_DATA, _SUB_DATA, _DUPLICATES = 0x01, 0x02, 0x04
_NO_PAGE: Final = (1 << 64) - 1
_PAGE_BYTES: Final = range(512, (1 << 16) + 1)
_DEPTH_MAX: Final = 32
_TRIES: Final = 3


class LmdbError(Exception):
    """Raised when a file is no LMDB, or a damaged one, or of a kind that is not read."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the newest meta page says."""

    transaction: int
    page_bytes: int
    root: int
    depth: int


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a record's bytes lie in the file."""

    offset: int
    size: int


def find_record(file: int, key: bytes) -> RecordPlace | None:
    """Where the record of `key` lies in an open LMDB file; None when there is none.

    A writer may reuse pages that it has just given up: a look-up during which a transaction ended is done again.
    Raises LmdbError, OSError.
    """
    for _ in range(_TRIES):
        state = _newest(file)
        try:
            found = _find(file, state, key)
        except LmdbError:
            if _newest(file) == state:
                raise
            continue
        if _newest(file) == state:
            return found
    raise LmdbError("it changes faster than it can be read")


def _newest(file: int) -> _State:
    first = _meta(file, 0)
    # The second meta page lies one page further.
    second = _meta(file, first.page_bytes)
    return max(first, second, key=lambda state: state.transaction)


def _meta(file: int, offset: int) -> _State:
    data = os.pread(file, _PAGE_HEADER.size + _META.size + 2 * _TREE.size + 16, offset)
    try:
        _, _, flags, _, _ = _PAGE_HEADER.unpack_from(data)
        magic, version, _, _ = _META.unpack_from(data, _PAGE_HEADER.size)
        trees = _PAGE_HEADER.size + _META.size
        page_bytes, *_ = _TREE.unpack_from(data, trees)
        _, tree_flags, depth, *_, root = _TREE.unpack_from(data, trees + _TREE.size)
        (transaction,) = struct.unpack_from("<Q", data, trees + 2 * _TREE.size + 8)
    except struct.error:
        raise LmdbError("it ends within its first pages") from None
    if not flags & _META_PAGE or magic != _MAGIC:
        raise LmdbError("it has no meta page where LMDB has one")
    if version != _VERSION or page_bytes not in _PAGE_BYTES or page_bytes & (page_bytes - 1):
        raise LmdbError(f"it has data version {version} and pages of {page_bytes} bytes; version 1 is read")
    if tree_flags:  # MDB_REVERSEKEY, MDB_DUPSORT, MDB_INTEGERKEY …
        raise LmdbError(f"its keys are ordered otherwise (flags {tree_flags:#x})")
    return _State(transaction, page_bytes, root, depth)


def _find(file: int, state: _State, key: bytes) -> RecordPlace | None:
    if state.root == _NO_PAGE:
        return None
    number = state.root
    for _ in range(min(state.depth, _DEPTH_MAX)):
        page = _Page(file, state, number)
        if page.is_leaf:
            return _record(file, state, page, key)
        number = page.child(key)
    raise LmdbError("its tree has no leaf where it ends")


class _Page:
    """One branch or leaf page: sorted nodes behind an array of their offsets."""

    def __init__(self, file: int, state: _State, number: int) -> None:
        self._data = _read_page(file, state, number)
        _, _, self._flags, lower, _ = _PAGE_HEADER.unpack_from(self._data)
        self.count = (lower - _PAGE_HEADER.size) // 2
        self.is_leaf = bool(self._flags & _LEAF)
        self.start = number * state.page_bytes
        if self._flags & ~0x10 not in (_BRANCH, _LEAF) or not 0 <= self.count <= len(self._data) // 2:
            raise LmdbError(f"page {number} is neither branch nor leaf")
        if not self.count:
            raise LmdbError(f"page {number} is empty")

    def node(self, index: int) -> tuple[int, int, int, bytes, int]:
        """Low and high half of its number, flags, key, and the offset behind the key."""
        try:
            (offset,) = struct.unpack_from("<H", self._data, _PAGE_HEADER.size + 2 * index)
            low, high, flags, key_bytes = _NODE_HEADER.unpack_from(self._data, offset)
        except struct.error:
            raise LmdbError("a node lies behind the end of its page") from None
        begin = offset + _NODE_HEADER.size
        key = self._data[begin : begin + key_bytes]
        if len(key) != key_bytes:
            raise LmdbError("a key lies behind the end of its page")
        return low, high, flags, key, begin + key_bytes

    def bisect(self, key: bytes, first: int) -> int:
        """The index of the first node, from `first` on, whose key is above `key`."""
        low, high = first, self.count
        while low < high:
            middle = (low + high) // 2
            if self.node(middle)[3] <= key:
                low = middle + 1
            else:
                high = middle
        return low

    def child(self, key: bytes) -> int:
        """The page below that may hold the key. The first node's key counts as lower than any."""
        low, high, flags, _, _ = self.node(self.bisect(key, 1) - 1)
        return low | high << 16 | flags << 32

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Bytes of the page; raises LmdbError when it has not that many."""
        data = self._data[offset : offset + count]
        if len(data) != count:
            raise LmdbError("a record lies behind the end of its page")
        return data


def _record(file: int, state: _State, page: _Page, key: bytes) -> RecordPlace | None:
    index = page.bisect(key, 0) - 1
    if index < 0:
        return None
    low, high, flags, found, offset = page.node(index)
    if found != key:
        return None
    size = low | high << 16
    if flags & (_SUB_DATA | _DUPLICATES):
        raise LmdbError("the key names a database within it, or several records")
    if not flags & _BIG_DATA:
        page.bytes_at(offset, size)
        return RecordPlace(page.start + offset, size)
    (number,) = struct.unpack("<Q", page.bytes_at(offset, 8))
    head = _read_page(file, state, number)
    _, _, overflow_flags, *_ = _PAGE_HEADER.unpack_from(head)
    (pages,) = struct.unpack_from("<I", head, 12)
    if not overflow_flags & _OVERFLOW or pages * state.page_bytes < _PAGE_HEADER.size + size:
        raise LmdbError(f"page {number} does not hold the record that it should")
    return RecordPlace(number * state.page_bytes + _PAGE_HEADER.size, size)


def _read_page(file: int, state: _State, number: int) -> bytes:
    if not 2 <= number <= os.fstat(file).st_size // state.page_bytes:
        raise LmdbError(f"page {number} lies outside of it")
    data = os.pread(file, state.page_bytes, number * state.page_bytes)
    if len(data) != state.page_bytes or _PAGE_HEADER.unpack_from(data)[0] != number:
        raise LmdbError(f"page {number} is damaged")
    return data
