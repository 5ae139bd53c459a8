"""The routes for the output of a run."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import texts
from light_run.api.openapi.operation import RUN_ID, Json, Operation, header, query, sent
from light_run.api.responses import log_formats
from light_run.api.routes.output import FRAMED, RAW

# Fifteen digits.
_SEQ = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
_EVENTS = f"id: 0\ndata: {texts.LINE}\n\nid: 1\nevent: end\ndata: {{...}}\n\n"


def operations() -> Iterator[Operation]:
    """Yield all of them."""
    yield Operation(
        method="get",
        path="/runs/{run_id}/logs",
        name="getLogs",
        tag="Runs",
        summary="Read or follow the output",
        description="One line of JSON for each line of output, plain text, or server-sent events, selected by "
        "`Accept` or `format`. Each event has the `seq` of its line as its id; the last event is `end`, with the "
        "final state. A comment is sent after 15 seconds without output. An event stream that ends without `end` was "
        "interrupted: reconnect with `Last-Event-ID`.",
        parameters=[RUN_ID, *_parameters()],
        answers={
            200: {
                "description": "The lines.",
                "headers": {
                    "Cache-Control": sent("The response must not be cached.", enum=["no-store"]),
                    "X-Accel-Buffering": sent("Tells nginx not to buffer the response.", enum=["no"]),
                },
                "content": _content(),
            },
            204: {"description": "The client has already received the last event and need not reconnect."},
        },
        errors=["not_found", "overloaded"],
    )
    yield _output()


def _output() -> Operation:
    buffering = {"X-Accel-Buffering": sent("Tells nginx not to buffer the response.", enum=["no"])}
    ended = {
        "ETag": sent("The ETag of the whole output.", pattern='^"[^"]+"$'),
        "Last-Modified": sent("When the run ended."),
        "Accept-Ranges": sent("Range requests are supported.", enum=["bytes"]),
    }
    once_ended = {name: {**each, "required": False} for name, each in ended.items()}
    caching = sent("`no-store` until the run has ended.", enum=["no-store", "no-cache"])
    part = sent("The range of bytes, and the size.", pattern=r"^bytes \d+-\d+/\d+$")
    return Operation(
        method="get",
        path="/runs/{run_id}/output",
        name="getOutput",
        tag="Runs",
        summary="Read or follow the exact bytes of the output",
        description="Stdout and stderr in the order of arrival, or one of them. With `follow`, bytes are sent as "
        "they are written, even without a newline. `ETag` and `Range` are supported once the run has ended. "
        f"With an `Accept` that prefers `{FRAMED}`, each piece has a header of eight bytes, as from Docker's attach: "
        "1 for stdout or 2 for stderr, three zero bytes, and the length, big-endian. A frame of length 0 is sent after "
        "15 seconds without output.",
        parameters=[
            RUN_ID,
            query("follow", "Continue until the run has ended.", {"type": "boolean", "default": False}),
            query(
                "stream",
                "Only the bytes of this stream.",
                {"type": "string", "enum": ["stdout", "stderr", "both"], "default": "both"},
            ),
            query("offset", "Skip this number of bytes.", {**_SEQ, "default": 0}),
            header("Range", "The requested range, such as `bytes=0-99`. Invalid ranges are ignored."),
            header("If-Range", "An `ETag`. If it does not match, the range is ignored."),
            header("If-None-Match", "`ETag`s. If one of them matches, the response is 304."),
            header("If-Modified-Since", "A date. If the run ended before it, the response is 304."),
        ],
        answers={
            200: {
                "description": "The bytes.",
                "headers": {**buffering, **once_ended, "Cache-Control": caching},
                "content": {RAW: {}, FRAMED: {}},
            },
            206: {
                "description": "The requested range.",
                "headers": {**buffering, **ended, "Cache-Control": caching, "Content-Range": part},
                "content": {RAW: {}},
            },
            304: {
                "description": "Not modified.",
                "headers": {**buffering, **once_ended, "Cache-Control": caching},
            },
        },
        errors=["not_found", "overloaded", "range_not_satisfiable"],
    )


def _parameters() -> Iterator[Json]:
    yield query(
        "follow",
        "Continue until the run has ended. Default: true for server-sent events, otherwise false.",
        {"type": "boolean"},
    )
    yield query("since", "Only lines after the one with this `seq`.", _SEQ)
    yield query("tail", "Only this number of lines from the end.", _SEQ)
    yield query("stream", "Only lines of this stream.", {"type": "string", "enum": ["stdout", "stderr"]})
    yield query("format", "Overrides `Accept`.", {"type": "string", "enum": list(log_formats.TYPES)})
    yield header(
        "Last-Event-ID",
        "The id of the last event that the client received. Overrides `since` and `tail`.",
        {"type": "string", "pattern": "^[0-9]{0,15}$"},
    )


def _content() -> Json:
    each = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Line"},
    }
    ndjson, text, events = log_formats.MIMETYPES
    return {
        ndjson: {"schema": {**each, "description": "One object on each line."}, "example": texts.LINE + "\n"},
        text: {"schema": {"type": "string"}, "example": "Hello, Ada\n"},
        # Some take a schema for that of the whole text here, others for that of an event.
        events: {"example": _EVENTS},
    }
