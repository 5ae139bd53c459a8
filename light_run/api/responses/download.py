"""Downloads of one file, whole or in part, by sendfile or nginx where possible."""

from __future__ import annotations

import io
import mimetypes
import os
import posixpath
import re
from datetime import datetime, timezone
from typing import IO, cast
from urllib.parse import quote

from flask import Response, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import http_date, is_resource_modified, parse_range_header
from werkzeug.wsgi import wrap_file

from light_run.artifacts.store import OpenFile

_TYPE = "application/octet-stream"
# Media types of compressed files, whatever they contain.
_ENCODED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_BLOCK = 256 * 1024
_UNFIT = re.compile(r"[^ -~]")
_ESCAPED = re.compile(r'["\\]')


def response(file: OpenFile, accel: str | None, *, inline: bool = False) -> Response:
    """Return a response with the bytes of `file`, as an attachment unless `inline`. The response closes the file."""
    try:
        headers = _inline_headers(file) if inline else _headers(file)
        return _accelerated(file, accel, headers) if accel else _sent(file, headers)
    except BaseException:
        file.handle.close()
        raise


def disposition(name: str, kind: str = "attachment") -> str:
    """Return the Content-Disposition of a download called `name` (RFC 6266)."""
    quoted = _ESCAPED.sub(r"\\\g<0>", _UNFIT.sub("_", name))
    plain = f'{kind}; filename="{quoted}"'
    if not _UNFIT.search(name):
        return plain
    return f"{plain}; filename*=UTF-8''{quote(name, safe='', errors='surrogateescape')}"


class _Part(io.RawIOBase):
    # The `length` bytes of `file` from `start`. A server that supports it sends them with sendfile, if `file` has a
    # descriptor.
    def __init__(self, file: OpenFile, start: int, length: int) -> None:
        self._handle, self._left = file.handle, length
        try:
            self._descriptor: int | None = file.handle.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None
        self.seek(start)

    def fileno(self) -> int:
        return self._handle.fileno()

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        if self._descriptor is None:
            found = self._handle.read(wanted)
        else:
            found = os.read(self._descriptor, wanted) if wanted else b""
        self._left -= len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # socket.sendfile seeks in the file at its end. If it cannot, gunicorn drops the connection.
        if self._descriptor is None:
            return self._handle.seek(offset, whence)
        # Moves the descriptor itself, regardless of the buffer: sendfile starts there.
        return os.lseek(self._descriptor, offset, whence)

    def close(self) -> None:
        self._handle.close()
        super().close()


def _sent(file: OpenFile, headers: dict[str, str]) -> Response:
    modified = datetime.fromtimestamp(file.modified // 1_000_000_000, timezone.utc)
    headers |= {"ETag": f'"{file.etag}"', "Last-Modified": http_date(modified), "Accept-Ranges": "bytes"}
    if not is_resource_modified(request.environ, etag=file.etag, last_modified=modified):
        file.handle.close()
        del headers["Content-Type"], headers["Content-Disposition"]
        answer = Response(status=304, headers=headers)
        del answer.headers["Content-Type"]
        return answer
    part = asked_range(file.bytes, file.etag, modified)
    start, stop = part or (0, file.bytes)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
    body = wrap_file(request.environ, cast("IO[bytes]", _Part(file, start, stop - start)), _BLOCK)
    answer = Response(body, 200 if part is None else 206, headers=headers, direct_passthrough=True)
    answer.content_length = stop - start
    return answer


def asked_range(size: int, etag: str, modified: datetime | None) -> tuple[int, int] | None:
    """Return the one range of `size` bytes that is asked for: its start and its end.

    None is everything, also where the range is not understood. Raises `RequestedRangeNotSatisfiable`.
    """
    wanted = parse_range_header(request.headers.get("Range"))
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if "If-Range" in request.headers and is_resource_modified(
        request.environ, etag=etag, last_modified=modified, ignore_if_range=False
    ):
        return None
    begin, end = wanted.ranges[0]
    # A suffix longer than the whole is the whole.
    start = max(0, size + begin) if begin < 0 else begin
    if start >= size:
        raise RequestedRangeNotSatisfiable(size)
    return start, size if end is None else min(end, size)


def _accelerated(file: OpenFile, accel: str, headers: dict[str, str]) -> Response:
    file.handle.close()
    location = quote(file.location, errors="surrogateescape")
    return Response(headers={**headers, "X-Accel-Redirect": f"{accel}/{location}"})


def _headers(file: OpenFile) -> dict[str, str]:
    return {"Content-Type": _TYPE, "Content-Disposition": disposition(file.name)}


def _inline_headers(file: OpenFile) -> dict[str, str]:
    return {
        "Content-Type": type_of(file.name),
        "Content-Disposition": disposition(file.name, "inline"),
        # A page that a run created may be displayed, but must not act as a page of this server.
        "Content-Security-Policy": "sandbox",
    }


def type_of(name: str) -> str:
    """Return the media type for the last extension of `name`; ``application/octet-stream`` if it is unknown."""
    guessed, encoding = mimetypes.guess_type("x" + posixpath.splitext(name)[1], strict=False)
    if guessed is None or encoding is not None:
        return _ENCODED.get(encoding or "", _TYPE)
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed
