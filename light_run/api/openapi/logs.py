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
    """All of them."""
    yield Operation(
        method="get",
        path="/runs/{run_id}/logs",
        name="getLogs",
        tag="Runs",
        summary="Read the output, also while it comes",
        description="One line of JSON for each line of output, or text, or server-sent events: with an `Accept` that "
        "prefers one of their types, or with `format`. Each event has the `seq` of its line as its id; the last one "
        "is `end`, with the final state. A comment comes after 15 silent seconds. A stream of events that ends "
        "without `end` was cut off; come back with `Last-Event-ID`.",
        parameters=[RUN_ID, *_parameters()],
        answers={
            200: {
                "description": "The lines.",
                "headers": {
                    "Cache-Control": sent("Not to be kept.", enum=["no-store"]),
                    "X-Accel-Buffering": sent("For nginx: to be passed on as it comes.", enum=["no"]),
                },
                "content": _content(),
            },
            204: {"description": "The client had the last event already: it need not come again."},
        },
        errors=["not_found", "overloaded"],
    )
    yield _output()


def _output() -> Operation:
    buffering = {"X-Accel-Buffering": sent("For nginx: to be passed on as it comes.", enum=["no"])}
    ended = {
        "ETag": sent("Of the whole.", pattern='^"[^"]+"$'),
        "Last-Modified": sent("When the run ended."),
        "Accept-Ranges": sent("Parts of it may be asked for.", enum=["bytes"]),
    }
    once_ended = {name: {**each, "required": False} for name, each in ended.items()}
    caching = sent("`no-store` until the run has ended.", enum=["no-store", "no-cache"])
    part = sent("Which bytes, of how many.", pattern=r"^bytes \d+-\d+/\d+$")
    return Operation(
        method="get",
        path="/runs/{run_id}/output",
        name="getOutput",
        tag="Runs",
        summary="Read the exact bytes of the output, also while they come",
        description="Stdout and stderr in the order of arrival, or one of them. With `follow`, bytes come as they are "
        "written, also without a newline. `ETag`, and parts by `Range`, are for runs that have ended. "
        f"With an `Accept` that prefers `{FRAMED}`, each piece has a header of eight bytes, as from Docker's attach: "
        "1 for stdout or 2 for stderr, three zero bytes, and the length, big-endian; a frame of length 0 comes after "
        "15 silent seconds.",
        parameters=[
            RUN_ID,
            query("follow", "Go on until the run has ended.", {"type": "boolean", "default": False}),
            query(
                "stream",
                "Only the bytes of this one.",
                {"type": "string", "enum": ["stdout", "stderr", "both"], "default": "both"},
            ),
            query("offset", "Leave out so many bytes at the beginning.", {**_SEQ, "default": 0}),
            header(
                "Range", "The part that is wanted, such as `bytes=0-99`; one that is not read is ignored."
            ),
            header("If-Range", "An `ETag`: everything, where it has become another."),
            header("If-None-Match", "`ETag`s: 304, where it is one of them."),
            header("If-Modified-Since", "A date: 304, where it has not ended since."),
        ],
        answers={
            200: {
                "description": "The bytes.",
                "headers": {**buffering, **once_ended, "Cache-Control": caching},
                "content": {RAW: {}, FRAMED: {}},
            },
            206: {
                "description": "The part that was asked for.",
                "headers": {**buffering, **ended, "Cache-Control": caching, "Content-Range": part},
                "content": {RAW: {}},
            },
            304: {
                "description": "The client has it already.",
                "headers": {**buffering, **once_ended, "Cache-Control": caching},
            },
        },
        errors=["not_found", "overloaded", "range_not_satisfiable"],
    )


def _parameters() -> Iterator[Json]:
    yield query(
        "follow",
        "Go on until the run has ended; left out: true for server-sent events, else false.",
        {"type": "boolean"},
    )
    yield query("since", "Only lines behind the one with this `seq`.", _SEQ)
    yield query("tail", "At most so many lines, the last ones.", _SEQ)
    yield query("stream", "Only lines of this one.", {"type": "string", "enum": ["stdout", "stderr"]})
    yield query("format", "Comes before `Accept`.", {"type": "string", "enum": list(log_formats.TYPES)})
    yield header(
        "Last-Event-ID",
        "Of the last event that a client had: what came behind it, whatever `since` and `tail` say.",
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
        ndjson: {"schema": {**each, "description": "One to a line."}, "example": texts.LINE + "\n"},
        text: {"schema": {"type": "string"}, "example": "Hello, Ada\n"},
        # Some take a schema for that of the whole text here, others for that of an event.
        events: {"example": _EVENTS},
    }
