"""The one guard for paths that clients name, and how names that are not UTF-8 are written."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote

from light_run.errors import InvalidPath

_SEGMENTS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_UNDECODABLE = re.compile("[\udc80-\udcff]+")

# A path that still changes after so many decodings was made to get past somebody.
_MOST_DECODINGS = 4


def segments(path: str) -> tuple[str, ...]:
    """The segments of `path`, relative to a run's folder; none of them leads out of it, ``()`` is the folder.

    Raises `InvalidPath` for an absolute path, a NUL, and ``..`` in any spelling: behind backslashes, and
    percent-encoded once more than HTTP did.
    """
    spelling = path
    for _ in range(_MOST_DECODINGS):
        _refuse(spelling)
        decoded = unquote(spelling, errors="surrogateescape")
        if decoded == spelling:
            return tuple(name for name in path.split("/") if name not in ("", "."))
        spelling = decoded
    raise InvalidPath("the path is percent-encoded too many times")


def _refuse(path: str) -> None:
    if "\0" in path:
        raise InvalidPath("the path has a NUL in it")
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise InvalidPath("the path is absolute; it must be relative to the run's artifacts")
    if ".." in _SEGMENTS.split(path):
        raise InvalidPath("the path has a '..' segment")


def printable(name: str) -> str:
    """`name` fit for JSON: bytes that are not UTF-8 become ``%FF``, as they are asked for in a URL."""
    if name.isascii():
        return name
    return _UNDECODABLE.sub(lambda match: quote_from_bytes(match[0].encode("utf-8", "surrogateescape")), name)
