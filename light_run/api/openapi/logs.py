"""The route for the output of a run."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import texts
from light_run.api.openapi.operation import RUN_ID, Json, Operation, header, query, sent
from light_run.api.responses import log_formats

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
