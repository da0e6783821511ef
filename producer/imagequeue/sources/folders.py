"""Pictures below a folder, and files that a glob names: in the order of their names, which is where reading goes on.

In each folder the files come first, then its folders; links to folders are not followed. Only one folder's names, and
those of the folders above it, are in memory. A cursor is the percent-encoded path below the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from imagequeue.errors import SourceError
from imagequeue.orders import path_reference
from imagequeue.sources.arguments import IMAGE_SUFFIXES
from imagequeue.sources.items import Found, Unreadable, listed

_MAGIC = re.compile(r"[*?\[]")
_WILDCARDS = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class Folder:
    """The pictures below a folder, by suffix; or, with a pattern, the files whose path below it matches."""

    path: Path
    pattern: re.Pattern[str] | None = None
    depth: int | None = None  # how many folders deep the pattern reaches

    def read(self, after: str) -> Iterator[Found]:
        """What comes after a cursor."""
        behind = tuple(os.fsdecode(unquote_to_bytes(after)).split("/")) if after else ()
        for relative, problem in _walk(self.path, "", behind, self.depth):
            place = str(self.path / relative)
            cursor = quote_from_bytes(os.fsencode(relative))
            if problem is not None:
                yield Unreadable(place, problem, cursor)
            elif self._wants(relative):
                yield listed(path_reference(Path(place)), place, cursor)

    def files(self) -> Iterator[Path]:
        """The files themselves; folders that cannot be read are left out."""
        for relative, problem in _walk(self.path, "", (), self.depth):
            if problem is None and self._wants(relative):
                yield self.path / relative

    def _wants(self, relative: str) -> bool:
        if self.pattern is None:
            return Path(relative).suffix.lower() in IMAGE_SUFFIXES
        return self.pattern.fullmatch(relative) is not None


def glob_folder(pattern: str) -> Folder:
    """The folder that a glob begins with, and what is wanted of it; `**` stands for any number of folders.

    Raises SourceError when its brackets make no sense.
    """
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if _MAGIC.search(part))
    wanted = parts[fixed:]
    depth = None if "**" in wanted else len(wanted) - 1
    try:
        expression = re.compile(_expression(wanted), re.DOTALL)
    except re.error as error:
        raise SourceError(f"{pattern!r} is no glob ({error.msg}); write [abc], [a-z] or [!abc]") from error
    return Folder(Path(*parts[:fixed]), expression, depth)


def is_glob(text: str) -> bool:
    """Whether it has a wildcard, and is no file of that very name."""
    return _MAGIC.search(text) is not None and not os.path.lexists(text)


def _walk(folder: Path, below: str, behind: tuple[str, ...], depth: int | None) -> Iterator[tuple[str, str | None]]:
    """Paths of files below the root that come after `behind`; or of folders that cannot be read, and why."""
    try:
        names, folders = _list(folder)
    except OSError as error:
        yield below or ".", f"the folder cannot be read: {error.strerror}"
        return
    if len(behind) <= 1:
        yield from ((below + name, None) for name in names if not behind or name > behind[0])
    if depth == 0:
        return
    for name in folders:
        if len(behind) > 1 and name < behind[0]:
            continue
        rest = behind[1:] if len(behind) > 1 and name == behind[0] else ()
        yield from _walk(folder / name, f"{below}{name}/", rest, None if depth is None else depth - 1)


def _list(folder: Path) -> tuple[list[str], list[str]]:
    names, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                names.append(entry.name)
            elif not entry.is_symlink():
                folders.append(entry.name)
    return sorted(names), sorted(folders)


def _expression(parts: tuple[str, ...]) -> str:
    """The regular expression of a glob; as in a shell, a wildcard in front matches no dot."""
    *above, last = parts
    text = "".join(r"(?:(?!\.)[^/]+/)*" if part == "**" else _part(part) + "/" for part in above)
    return text + (r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+" if last == "**" else _part(last))


def _part(part: str) -> str:
    found = r"(?!\.)" if part[0] in "*?[" else ""
    for token in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if len(token) > 1:
            inside = token[1:-1].replace("\\", "\\\\")
            found += f"[{'^' + inside[1:] if inside.startswith('!') else inside}]"
        else:
            found += _WILDCARDS.get(token) or re.escape(token)
    return found
