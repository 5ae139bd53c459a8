"""Downloads artifacts: atomically, and never outside of the target folder."""

from __future__ import annotations

import hashlib
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

# Called with the bytes of every chunk written; negative if bytes must be downloaded again.
Progress = Callable[[int], object]

_BLOCK = 1 << 16
# Most file systems take no name of more bytes.
_LONGEST_NAME = 255
# All separators are refused, because artifact names come from Linux and this may be Windows.
_SEPARATORS = frozenset(filter(None, ["/", os.sep, os.altsep]))


def ignore_progress(count: int) -> None:
    """Ignore the progress of a transfer."""


def local_path(folder: Path, path: str) -> Path:
    """Return the local path of the artifact `path` in `folder`. Raises `InvalidPath` if it would be outside."""
    names = path.split("/")
    for name in names:
        if name in ("", ".", "..") or "\0" in name or _SEPARATORS & set(name) or _drive(name):
            raise InvalidPath(f"the artifact {path!r} cannot be stored in {folder}: its name is not allowed")
    found = folder.joinpath(*map(_short, names))
    # An existing link in the folder may point outside.
    if not found.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidPath(f"the artifact {path!r} would be written outside of {folder}: a link leads there")
    return found


def _short(name: str) -> str:
    # The server encodes bytes that are not UTF-8, which takes three times as many.
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    mark = "~" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    kept = os.fsencode(name)[: _LONGEST_NAME - len(mark)].decode("utf-8", "ignore")
    return kept + mark


def fetch(connection: Connection, path: str, to: Path, progress: Progress = lambda _: None) -> None:
    """Download the artifact at the URL `path` to the file `to`, which is created only when it is complete.

    A broken connection is resumed where it broke. Raises `DownloadFailed`, `ServerUnavailable`, the exception of
    the server's error response, and OSError.
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
            # Report the target, not the temporary file.
            error.filename = os.fspath(to)
        raise


def url_path(path: str) -> str:
    """Quote the path of an artifact for a URL. Raises `InvalidPath` for dot segments, which change the URL."""
    if {".", ".."} & set(path.split("/")):
        raise InvalidPath(f"{path!r} is not the path of an artifact: remove its '.' and '..' segments")
    return quote(path, safe="/")


class _Download:
    # Downloads one file, with as many requests as needed.
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
            # The server sends this header with every file.
            raise ArtifactNotFound(f"{self._path} is a directory, not a file")
        # The server sent the whole file instead of the rest: it changed, or the server does not support ranges.
        self._progress(-self._have)
        self._file.seek(0)
        self._file.truncate()
        self._have = 0
        self._etag = response.headers.get("ETag", "")
        length = response.headers.get("Content-Length", "")
        self._whole = int(length) if length.isascii() and length.isdigit() else None


def _drive(name: str) -> bool:
    return os.name == "nt" and ":" in name
