"""Validates the artifact paths that clients give, and encodes names that are not UTF-8."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote

from light_run.errors import InvalidPath

_SEGMENTS = re.compile(r"[/\\]")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_UNDECODABLE = re.compile("[\udc80-\udcff]+")

# A path that needs more decodings is an attempt to bypass a check.
_MOST_DECODINGS = 4


def segments(path: str) -> tuple[str, ...]:
    """Split `path` into segments relative to a run's folder, none of which leads outside; ``()`` is the folder.

    Raises `InvalidPath` for an absolute path, a NUL, and ``..`` in any spelling: with backslashes, or
    percent-encoded more than once.
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
        raise InvalidPath("the path contains a NUL character")
    if path.startswith(("/", "\\")) or _DRIVE.match(path):
        raise InvalidPath("the path is absolute; it must be relative to the run's artifacts")
    if ".." in _SEGMENTS.split(path):
        raise InvalidPath("the path contains a '..' segment")


def printable(path: str) -> str:
    """Encode `path` for JSON: bytes that are not UTF-8 become ``%FF``, as in the URL of the artifact.

    No two paths become the same: where a name could be taken for an encoded one, as ``%FF`` itself, so does its ``%``.
    """
    if path.isascii() and "%" not in path:
        return path
    return "/".join(map(_printable_name, path.split("/")))


def original(name: str) -> str:
    """Return the name that `printable` has encoded as `name`; `name` itself if there is none."""
    decoded = unquote(name, errors="surrogateescape")
    return decoded if _printable_name(decoded) == name else name


def _printable_name(name: str) -> str:
    if not _may_be_encoded(name):
        return name
    escaped = name.replace("%", "%25")
    return _UNDECODABLE.sub(
        lambda match: quote_from_bytes(match[0].encode("utf-8", "surrogateescape")), escaped
    )


def _may_be_encoded(name: str) -> bool:
    # Whether decoding it, as often as that changes it, leads to bytes that are not UTF-8.
    while not _UNDECODABLE.search(name):
        decoded = unquote(name, errors="surrogateescape")
        if decoded == name:
            return False
        name = decoded
    return True
