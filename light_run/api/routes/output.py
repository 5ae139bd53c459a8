"""``GET /runs/ID/output``: the exact bytes that a run has written, whole, in part or as they are written."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from flask import Blueprint, Response, request
from werkzeug.http import http_date, is_resource_modified

from light_run.api.requests.log_query import OutputQuery, output_query
from light_run.api.responses.download import asked_range
from light_run.api.responses.request_log import RUN
from light_run.api.responses.slow_clients import is_gone
from light_run.api.routes.logs import BEAT, COMMENT_EVERY
from light_run.api.routes.places import OutputPlaces
from light_run.engine.spec import RawPiece
from light_run.runs.model import RunRecord
from light_run.runs.service import RunService

RAW = "application/octet-stream"
# The format of Docker's attach: before each piece its stream, three NUL bytes, and its length, big-endian.
FRAMED = "application/vnd.docker.multiplexed-stream"

_FRAME = struct.Struct(">BxxxL")
# An empty frame shows the client that the connection is still alive.
_EMPTY_FRAME = _FRAME.pack(1, 0)


class OutputRoutes:
    """The route for raw output. Every response takes one of `places`."""

    def __init__(self, service: RunService, places: OutputPlaces) -> None:
        self._service = service
        self._places = places

    def blueprint(self) -> Blueprint:
        """Return the blueprint."""
        routes = Blueprint("output", __name__)
        routes.get("/runs/<run_id>/output")(self.output)
        return routes

    def output(self, run_id: str) -> Response:
        """``GET /runs/ID/output``."""
        request.environ[RUN] = run_id
        run, asked = self._service.get(run_id), output_query(request)
        framed = request.accept_mimetypes.best_match([RAW, FRAMED]) == FRAMED
        with ExitStack() as resources:
            if request.method != "HEAD":
                resources.callback(self._places.take(follows=asked.follow and not run.ended))
            response = (
                self._of_ended(run, asked, framed) if run.ended else self._of_active(run, asked, framed)
            )
            response.call_on_close(resources.pop_all().close)
        response.headers["Vary"] = "Accept"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    def _of_ended(self, run: RunRecord, asked: OutputQuery, framed: bool) -> Response:
        etag = f"{run.id}-{asked.stream or 'both'}-{asked.offset}{'-framed' * framed}"
        headers = {
            "ETag": f'"{etag}"',
            "Cache-Control": "no-cache",
            "Content-Type": FRAMED if framed else RAW,
        }
        if run.finished_at is not None:
            headers["Last-Modified"] = http_date(run.finished_at)
        if not is_resource_modified(request.environ, etag=etag, last_modified=run.finished_at):
            del headers["Content-Type"]
            response = Response(status=304, headers=headers)
            del response.headers["Content-Type"]
            return response
        written = self._service.following.output_size(run.id, asked.stream)
        size = max(0, written - asked.offset)
        if framed:
            pieces = self._service.following.output(run.id, asked.stream, asked.offset, written)
            return Response(map(_frame, pieces), headers=headers)
        headers["Accept-Ranges"] = "bytes"
        part = asked_range(size, etag, run.finished_at)
        start, stop = part or (0, size)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        pieces = self._service.following.output(
            run.id, asked.stream, asked.offset + start, asked.offset + stop
        )
        response = Response((piece.data for piece in pieces), 206 if part else 200, headers=headers)
        response.content_length = stop - start
        return response

    def _of_active(self, run: RunRecord, asked: OutputQuery, framed: bool) -> Response:
        following = self._service.following
        feed: Iterable[list[RawPiece] | None]
        if asked.follow:
            feed = following.output_pieces(run.id, stream=asked.stream, start=asked.offset, beat=BEAT)
        else:
            stop = following.output_size(run.id, asked.stream)
            feed = ([piece] for piece in following.output(run.id, asked.stream, asked.offset, stop))
        gone = partial(is_gone, request.environ.get("gunicorn.socket"))
        response = Response(sent(feed, gone, framed=framed), content_type=FRAMED if framed else RAW)
        response.headers["Cache-Control"] = "no-store"
        return response


def sent(
    feed: Iterable[list[RawPiece] | None],
    gone: Callable[[], bool],
    *,
    framed: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """Yield the body of a response with the pieces in `feed`; ends early if the client is `gone`."""
    # Send the headers at once.
    yield b""
    spoken = clock()
    for pieces in feed:
        if pieces is None and gone():
            return
        data = (
            b"".join(map(_frame, pieces) if framed else (piece.data for piece in pieces)) if pieces else b""
        )
        if not data and framed and clock() - spoken >= COMMENT_EVERY:
            data = _EMPTY_FRAME
        if data:
            yield data
            spoken = clock()


def _frame(piece: RawPiece) -> bytes:
    return _FRAME.pack(piece.stream, len(piece.data)) + piece.data
