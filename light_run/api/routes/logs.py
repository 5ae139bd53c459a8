"""``GET /runs/ID/logs``: the lines of a run as they are written, in one of three formats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial

from flask import Blueprint, Response, request

from light_run.api.requests.log_query import LogQuery, query
from light_run.api.responses import log_formats
from light_run.api.responses.json import no_content
from light_run.api.responses.request_log import RUN
from light_run.api.responses.slow_clients import is_gone
from light_run.api.routes.places import OutputPlaces
from light_run.runs.logs.following import LogBatch
from light_run.runs.model import RunRecord
from light_run.runs.service import RunService

# Seconds between two checks whether an idle client is still connected.
BEAT = 1.0
# Seconds of silence after which an event stream sends a comment.
COMMENT_EVERY = 15.0


class LogRoutes:
    """The route for logs. Every response takes one of `places`."""

    def __init__(self, service: RunService, places: OutputPlaces) -> None:
        self._service = service
        self._places = places

    def blueprint(self) -> Blueprint:
        """Return the blueprint."""
        routes = Blueprint("logs", __name__)
        routes.get("/runs/<run_id>/logs")(self.logs)
        return routes

    def logs(self, run_id: str) -> Response:
        """``GET /runs/ID/logs``."""
        request.environ[RUN] = run_id
        run = self._service.get(run_id)
        asked = query(request)
        if (
            asked.form == log_formats.SSE
            and asked.resumed
            and run.ended
            and self._has_received_all(run_id, asked)
        ):
            # This tells clients of server-sent events to stop reconnecting.
            return no_content()
        with ExitStack() as resources:
            if request.method != "HEAD":
                resources.callback(self._places.take(follows=asked.follow and not run.ended))
            response = Response(self._stream(run_id, asked), content_type=log_formats.TYPES[asked.form])
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Accel-Buffering"] = "no"
            response.call_on_close(resources.pop_all().close)
        return response

    def _has_received_all(self, run_id: str, asked: LogQuery) -> bool:
        return asked.since >= self._service.following.count(run_id).all

    def _stream(self, run_id: str, asked: LogQuery) -> Iterator[bytes]:
        following = self._service.following
        at, since = following.find(run_id, since=asked.since, stream=asked.stream, tail=asked.tail)
        feed = following.batches(run_id, follow=asked.follow, beat=BEAT, at=at)
        gone = partial(is_gone, request.environ.get("gunicorn.socket"))
        return pieces(feed, asked, since, gone)


def pieces(
    feed: Iterator[LogBatch | RunRecord | None],
    asked: LogQuery,
    since: int,
    gone: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """Yield the body of a response with the lines in `feed` after `since`; ends early if the client is `gone`."""
    # Send the headers at once.
    yield b""
    events = asked.form == log_formats.SSE
    last_sent, count = clock(), 0
    for found in feed:
        sent: Iterable[bytes] = ()
        if isinstance(found, LogBatch):
            count = found.after.seq
            sent = _rendered(found, asked, since)
        elif found is None and gone():
            return
        elif found is not None and events:
            sent = (log_formats.end_event(found, count),)
        for piece in filter(None, sent):
            yield piece
            last_sent = clock()
        if events and clock() - last_sent >= COMMENT_EVERY:
            yield log_formats.COMMENT
            last_sent = clock()


def _rendered(batch: LogBatch, asked: LogQuery, since: int) -> Iterator[bytes]:
    render = partial(log_formats.render, form=asked.form, stream=asked.stream)
    if batch.longest > log_formats.LONG:
        for line in filter(asked.wants, batch.lines):
            if line.seq > since:
                yield from log_formats.slices(line, asked.form)
    elif batch.lines[0].seq > since:
        yield batch.rendered((asked.form, asked.stream), render)
    else:
        yield render([line for line in batch.lines if line.seq > since])
