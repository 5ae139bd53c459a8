"""Every route: what it takes and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from light_run.api.openapi import answers, callback, words
from light_run.api.runs import MOST_LISTED, MOST_WAIT
from light_run.runs.model import Status

Json = dict[str, Any]
Answers = Mapping[int, Json]

RUN_ID = {
    "name": "run_id",
    "in": "path",
    "required": True,
    "description": "The run's `id`.",
    "schema": {"type": "string", "format": "uuid"},
    "example": words.RUN_ID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; `errors` are the words it answers beside those that every route does.

    `scope` is what a token needs for it, None where it needs no token.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    scope: str | None = "read"
    parameters: Sequence[Json] = ()
    body: Json | None = None
    answers: Answers = field(default_factory=dict)
    errors: Sequence[str] = ()
    more: Json = field(default_factory=dict)


def operations(body_limit: int) -> Iterator[Operation]:
    """All of them, in the order of a page; `body_limit` is in bytes."""
    yield from _running(body_limit)
    yield from _looking()
    yield from _ending()
    yield from _artifacts()
    yield from _service()


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _header(name: str, description: str, schema: Json | None = None) -> Json:
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def _answer(description: str, schema: Any, example: Any, **more: Any) -> Json:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **more}


def _sent(description: str, **schema: Any) -> Json:
    # A header that an answer always has.
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


def _links(*names: str) -> Json:
    parameters = {"run_id": "$response.body#/id"}
    return {"links": {name: {"operationId": name, "parameters": parameters} for name in names}}


def _running(body_limit: int) -> Iterator[Operation]:
    timing = _sent("What the time was spent on, as in `timings`.")
    location = _sent("The same as `url`.", pattern="^/runs/")
    accepted = {"id": words.RUN_ID, "status": "running", "url": f"/runs/{words.RUN_ID}"}
    schema = {"$ref": "#/components/schemas/RunRequest"}
    yield Operation(
        method="post",
        path="/run",
        name="startRun",
        tag="Runs",
        summary="Run a container",
        description="Answers with the final state, whatever became of the run; with `detached`, as soon as the run "
        "is accepted. The body is read as JSON whatever its Content-Type says. An unknown field is a fault, and "
        f"nothing is converted from one type to another. A body has {body_limit} bytes at most.",
        scope="run",
        parameters=[
            _header(
                "Idempotency-Key",
                "A request that is sent again with the same key and body gives the same run, for 24 hours.",
                {"type": "string", "maxLength": 255},
            )
        ],
        body={
            "required": True,
            "content": {"application/json": {"schema": schema, "example": words.REQUEST}},
        },
        answers={
            200: _answer(
                "The run has ended.",
                answers.RunState,
                words.STATE,
                headers={"Server-Timing": timing},
                **_links("getRun", "deleteRun", "listArtifacts"),
            ),
            202: _answer(
                "The run is accepted and goes on by itself.",
                answers.Accepted,
                accepted,
                headers={"Location": location},
                **_links("getRun", "cancelRun", "deleteRun", "listArtifacts"),
            ),
        },
        errors=(
            *("not_found", "idempotency_conflict", "payload_too_large", "overloaded"),
            "insufficient_storage",
        ),
        more={"callbacks": {"ended": callback.ENDED}},
    )


def _looking() -> Iterator[Operation]:
    link = {
        "description": '`<URL>; rel="next"`, where more follow.',
        "schema": {"type": "string", "pattern": '^</runs[?][^>]*>; rel="next"$'},
    }
    yield Operation(
        method="get",
        path="/runs",
        name="listRuns",
        tag="Runs",
        summary="List runs",
        description="Newest first, without their `logs`.",
        parameters=[
            _query("status", "Only those.", {"type": "string", "enum": [str(each) for each in Status]}),
            _query(
                "limit",
                "How many, at most.",
                {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED},
            ),
            _query("before", "Go on behind the run with this id.", {"type": "string", "format": "uuid"}),
        ],
        answers={
            200: _answer(
                "Runs.",
                {"type": "array", "items": answers.RunSummary},
                [words.SUMMARY],
                headers={"Link": link},
            )
        },
    )
    yield Operation(
        method="get",
        path="/runs/{run_id}",
        name="getRun",
        tag="Runs",
        summary="Look at a run",
        description="With `wait`, once it has ended or the time is over; at once where too many wait already.",
        parameters=[
            RUN_ID,
            _query(
                "wait", "Seconds.", {"type": "number", "minimum": 0, "maximum": int(MOST_WAIT), "default": 0}
            ),
        ],
        answers={200: _answer("Its state.", answers.RunState, words.STATE)},
        errors=["not_found"],
    )


def _ending() -> Iterator[Operation]:
    yield Operation(
        method="post",
        path="/runs/{run_id}/cancel",
        name="cancelRun",
        tag="Runs",
        summary="Cancel a run",
        description="In whatever state it is, also while its image is pulled.",
        scope="run",
        parameters=[RUN_ID],
        answers={204: {"description": "It is cancelled."}},
        errors=["not_found_or_done"],
    )
    yield Operation(
        method="delete",
        path="/runs/{run_id}",
        name="deleteRun",
        tag="Runs",
        summary="Delete a run",
        description="One that has ended, with its artifacts and its output.",
        scope="run",
        parameters=[RUN_ID],
        answers={204: {"description": "It is gone."}},
        errors=["not_found_or_running"],
    )
    yield Operation(
        method="post",
        path="/runs/{run_id}/callback/redeliver",
        name="redeliverCallback",
        tag="Runs",
        summary="Send a callback once more",
        description="Whatever became of it so far.",
        scope="run",
        parameters=[RUN_ID],
        answers={202: _answer("It is due.", answers.Callback, {"callback": words.CALLBACK})},
        errors=["not_found", "not_found_or_running"],
    )


def _artifacts() -> Iterator[Operation]:
    attachment = _sent("`attachment`, with the name of the file.", pattern="^attachment; filename=")
    everything: Json = {
        **_answer(
            "The list, or the archive where one was asked for.",
            {"type": "array", "items": answers.Artifact},
            words.STATE["artifacts"],
        ),
        "headers": {"Content-Disposition": {**attachment, "required": False}},
    }
    everything["content"] |= {"application/gzip": {}, "application/zip": {}}
    yield Operation(
        method="get",
        path="/runs/{run_id}/artifacts",
        name="listArtifacts",
        tag="Artifacts",
        summary="List a run's artifacts, or download them all",
        parameters=[
            RUN_ID,
            _query(
                "archive",
                "Everything in one file of this type.",
                {"type": "string", "enum": ["tar.gz", "zip"]},
            ),
        ],
        answers={200: everything},
        errors=["not_found"],
    )
    yield _one_artifact(attachment)


def _one_artifact(attachment: Json) -> Operation:
    known = {
        "ETag": _sent("Of this very content.", pattern='^"[^"]+"$'),
        "Accept-Ranges": _sent("Parts of it may be asked for.", enum=["bytes"]),
    }
    headers = {**known, "Last-Modified": _sent("When it was written."), "Content-Disposition": attachment}
    optional = {name: {**header, "required": False} for name, header in headers.items()}
    part = _sent("Which bytes, of how many.", pattern=r"^bytes \d+-\d+/\d+$")
    listed = {"schema": {"type": "array", "items": answers.FolderEntry}, "example": words.FOLDER}
    return Operation(
        method="get",
        path="/runs/{run_id}/artifacts/{path}",
        name="getArtifact",
        tag="Artifacts",
        summary="Download a file, or list a folder",
        description="A `/` in `path` may be written as it is. A name that is not UTF-8 is asked for by its bytes, "
        "percent-encoded. The `headers` come with files, not with lists.",
        parameters=[
            RUN_ID,
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "As in the list of artifacts.",
                "schema": {"type": "string", "minLength": 1},
                "example": "greetings.txt",
            },
            _header(
                "Range", "The part that is wanted, such as `bytes=0-99`; one that is not read is ignored."
            ),
            _header("If-Range", "An `ETag`: everything, where it has become another."),
            _header("If-None-Match", "`ETag`s: 304, where it is one of them."),
            _header("If-Modified-Since", "A date: 304, where it has not been written since."),
        ],
        answers={
            200: {
                "description": "The file's bytes, or what is in the folder.",
                "headers": optional,
                "content": {"application/octet-stream": {}, "application/json": listed},
            },
            206: {
                "description": "The part of the file that was asked for.",
                "headers": {**headers, "Content-Range": part},
                "content": {"application/octet-stream": {}},
            },
            304: {"description": "The client has it already.", "headers": known},
        },
        errors=["invalid_path", "not_found", "artifact_not_found", "range_not_satisfiable"],
    )


def _service() -> Iterator[Operation]:
    yield Operation(
        method="get",
        path="/health",
        name="getHealth",
        tag="Service",
        summary="Ask how the service is",
        description="Needs no token.",
        scope=None,
        answers={
            200: _answer("The engine answers.", answers.Health, words.HEALTH),
            503: _answer("It does not.", answers.Health, {"status": "degraded", "docker": False}),
        },
    )
    yield Operation(
        method="get",
        path="/openapi.json",
        name="getOpenapi",
        tag="Service",
        summary="Get this description",
        description="A browser may send the token as the password of Basic authorization, under any name.",
        answers={200: _answer("OpenAPI 3.1.", {"type": "object"}, {"openapi": "3.1.0"})},
    )
    yield Operation(
        method="get",
        path="/docs",
        name="getDocs",
        tag="Service",
        summary="Read this description",
        description="Tokens as for `/openapi.json`.",
        answers={
            200: {
                "description": "A page.",
                "headers": {"Content-Security-Policy": _sent("Nothing is loaded from elsewhere.")},
                "content": {"text/html": {"schema": {"type": "string"}}},
            }
        },
    )
