"""Artifacts onto this machine's disk: whole or not at all, and nowhere but where they belong."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import requests

from light_run.client.connection import Connection
from light_run.errors import ArtifactNotFound, DownloadFailed, InvalidPath, LightRunError, ServerUnavailable

# Told of every piece that has been written, by its bytes; less than 0 where some have to come again.
Progress = Callable[[int], object]

_BLOCK = 1 << 16
# Also on a file system of another kind, where these would name a drive or a folder above.
_SEPARATORS = frozenset(filter(None, ["/", os.sep, os.altsep]))


def local_path(folder: Path, path: str) -> Path:
    """Where the artifact `path` goes below `folder`. Raises `InvalidPath` for one that would leave it."""
    names = path.split("/")
    for name in names:
        if name in ("", ".", "..") or "\0" in name or _SEPARATORS & set(name) or _drive(name):
            raise InvalidPath(f"the artifact {path!r} has no place below {folder}")
    found = folder.joinpath(*names)
    # A link that lies in the folder already may lead elsewhere.
    if not found.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidPath(f"the artifact {path!r} would land outside of {folder}: there is a link on its way")
    return found


def fetch(connection: Connection, path: str, to: Path, progress: Progress = lambda _: None) -> None:
    """Write the artifact at the URL `path` to the file `to`, which is there only once it is whole.

    A connection that breaks is taken up where it broke. Raises `DownloadFailed`, `ServerUnavailable`, what
    the server's answer says, and OSError.
    """
    part = to.with_name(f".light-run-{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            _Download(connection, path, file, progress).run()
        part.replace(to)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename == os.fspath(part):
            # The name that was asked for, not the one on the way to it.
            error.filename = os.fspath(to)
        raise


def url_path(path: str) -> str:
    """`path` of an artifact as a part of a URL. Raises `InvalidPath` for one that would become another URL."""
    if {".", ".."} & set(path.split("/")):
        raise InvalidPath(f"no artifact is called {path!r}: it has a segment of dots")
    return quote(path, safe="/")


class _Download:
    # One file, over as many requests as it takes.
    def __init__(self, connection: Connection, path: str, file: BinaryIO, progress: Progress) -> None:
        self._connection = connection
        self._path = path
        self._file = file
        self._progress = progress
        self._have = 0
        self._whole: int | None = None
        self._etag = ""

    def run(self) -> None:
        tries = self._connection.retries.begin()
        while True:
            before = self._have
            try:
                self._request()
            except requests.RequestException as error:
                failed: LightRunError = self._connection.broken(error)
            else:
                if self._whole is None or self._have == self._whole:
                    return
                failed = DownloadFailed(f"{self._path} ended after {self._have} of {self._whole} bytes")
            if self._have > before:
                tries.reset()
            if not tries.again():
                raise failed if isinstance(failed, DownloadFailed) else ServerUnavailable(str(failed))

    def _request(self) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self._have and self._etag:
            headers |= {"Range": f"bytes={self._have}-", "If-Range": self._etag}
        with self._connection.send("GET", self._path, headers=headers, stream=True) as response:
            if response.status_code != requests.codes.partial_content:
                self._restart(response)
            for block in response.iter_content(_BLOCK):
                self._file.write(block)
                self._have += len(block)
                self._progress(len(block))

    def _restart(self, response: requests.Response) -> None:
        if "Content-Disposition" not in response.headers:
            # As every file has one, in whichever way it comes.
            raise ArtifactNotFound(f"{self._path} is a directory, and no file")
        # Not the rest of what was begun, but all of it: it has changed, or no part of it can be had.
        self._progress(-self._have)
        self._file.seek(0)
        self._file.truncate()
        self._have = 0
        self._etag = response.headers.get("ETag", "")
        length = response.headers.get("Content-Length", "")
        self._whole = int(length) if length.isascii() and length.isdigit() else None


def _drive(name: str) -> bool:
    return os.name == "nt" and ":" in name
