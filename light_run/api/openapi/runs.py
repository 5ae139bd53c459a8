"""The routes for runs."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import actions, callback, schemas, texts
from light_run.api.openapi.operation import RUN_ID, Operation, answer, header, links, query, sent
from light_run.api.requests.labels import FILTER_SCHEMA
from light_run.api.requests.schema import OUTPUTS
from light_run.api.routes.runs import MOST_LISTED, MOST_WAIT
from light_run.runs.model import Status

_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_UPLOAD = {
    "schema": {
        "type": "object",
        "description": "Parts in any order, preferably `request` first. Every other part is a file; its `filename` "
        "is its path.",
        "properties": {
            "request": {"$ref": "#/components/schemas/UploadRequest"},
            "archive": {**_FILE, "description": "A tar, tar.gz or zip, unpacked into the workdir."},
        },
        "required": ["request"],
        "additionalProperties": _FILE,
    },
    "encoding": {"request": {"contentType": "application/json"}},
}


def operations(body_limit: int) -> Iterator[Operation]:
    """Yield all of them; `body_limit` is in bytes."""
    yield from _running(body_limit)
    yield from _reading()
    yield from _ending()


def _running(body_limit: int) -> Iterator[Operation]:
    timing = sent("The durations of the steps, as in `timings`.")
    location = sent("The same as `url`.", pattern="^/runs/")
    accepted = {"id": texts.RUN_ID, "status": "running", "url": f"/runs/{texts.RUN_ID}"}
    schema = {"$ref": "#/components/schemas/RunRequest"}
    yield Operation(
        method="post",
        path="/run",
        name="startRun",
        tag="Runs",
        summary="Run a container",
        description="Returns the final state when the run has ended, whether it succeeded or failed; with `detached`, "
        "returns as soon as the run is accepted. The body is read as JSON regardless of its Content-Type, unless that "
        "is `multipart/form-data`, which can include files. Unknown fields are errors, and values are not converted. "
        f"A JSON body has at most {body_limit} bytes.",
        scope="run",
        parameters=[
            header(
                "Idempotency-Key",
                "For 24 hours, a request with the same key and body returns the same run.",
                {"type": "string", "maxLength": 255},
            )
        ],
        body={
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema,
                    "examples": {
                        "waiting": {"summary": "Wait until the run ends", "value": texts.REQUEST},
                        "detached": {"summary": "Get a callback at the end", "value": texts.DETACHED},
                    },
                },
                "multipart/form-data": _UPLOAD,
            },
        },
        answers={
            200: answer(
                "The run has ended.",
                schemas.RunStateSchema,
                texts.STATE,
                headers={"Server-Timing": timing},
                **links("getRun", "getLogs", "deleteRun", "listArtifacts"),
            ),
            202: answer(
                "The run is accepted.",
                schemas.AcceptedSchema,
                accepted,
                headers={"Location": location},
                **links("getRun", "getLogs", "cancelRun", "deleteRun", "listArtifacts"),
            ),
        },
        errors=(
            *("not_found", "idempotency_conflict", "payload_too_large", "overloaded"),
            "insufficient_storage",
        ),
        more={"callbacks": {"ended": callback.ENDED}},
    )


_WITH_REQUEST = query(
    "request",
    "Include `createdAt`, `owner` and the request; omit the output.",
    {"type": "string", "enum": ["true", "false"], "default": "false"},
)


def _reading() -> Iterator[Operation]:
    link = {
        "description": '`<URL>; rel="next"`, if there are more.',
        "schema": {"type": "string", "pattern": '^</runs[?][^>]*>; rel="next"$'},
    }
    yield Operation(
        method="get",
        path="/runs",
        name="listRuns",
        tag="Runs",
        summary="List runs",
        description="Newest first, without `logs`.",
        parameters=[
            _WITH_REQUEST,
            query(
                "status",
                "Only runs with this status.",
                {"type": "string", "enum": [str(each) for each in Status]},
            ),
            query(
                "limit",
                "The maximum number of runs.",
                {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED},
            ),
            query(
                "before",
                "Only runs older than the one with this id.",
                {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
            ),
            query(
                "label",
                "`KEY=VALUE`: only runs with this label. May be repeated.",
                dict(FILTER_SCHEMA),
            ),
        ],
        answers={
            200: answer(
                "Runs.",
                {"type": "array", "items": schemas.RunSummarySchema},
                [texts.SUMMARY],
                headers={"Link": link},
            )
        },
    )
    yield Operation(
        method="get",
        path="/runs/{run_id}",
        name="getRun",
        tag="Runs",
        summary="Get a run",
        description="With `wait`, returns once the run has ended or the time is over. If too many requests wait "
        "already, it returns immediately.",
        parameters=[
            RUN_ID,
            query(
                "wait",
                "The maximum time to wait, in seconds.",
                {"type": "number", "minimum": 0, "maximum": int(MOST_WAIT), "default": 0},
            ),
            query(
                "output",
                "Overrides `output` of the request.",
                {"type": "string", "enum": list(OUTPUTS)},
            ),
            _WITH_REQUEST,
        ],
        answers={200: answer("The state of the run.", schemas.RunStateSchema, texts.STATE)},
        errors=["not_found"],
    )


def _ending() -> Iterator[Operation]:
    yield from actions.operations()
    yield Operation(
        method="post",
        path="/runs/{run_id}/stdin",
        name="writeStdin",
        tag="Runs",
        summary="Write to the standard input of a run",
        description="Appends the bytes of the body to the input of a run with `interactive`. The answer comes once "
        "the engine has all of them: it waits until the run has started, and while the command does not read.",
        scope="run",
        parameters=[
            RUN_ID,
            query("close", "End the input behind the body.", {"type": "boolean", "default": False}),
        ],
        body={"required": False, "content": {"application/octet-stream": {"schema": {}}}},
        answers={204: {"description": "The engine has the bytes."}},
        errors=["not_found_or_done", "stdin_closed", "overloaded", "payload_too_large"],
    )
    yield Operation(
        method="delete",
        path="/runs/{run_id}",
        name="deleteRun",
        tag="Runs",
        summary="Delete a run",
        description="Deletes an ended run with its artifacts and its output.",
        scope="run",
        parameters=[RUN_ID],
        answers={204: {"description": "The run is deleted."}},
        errors=["not_found_or_running"],
    )
    yield Operation(
        method="post",
        path="/runs/{run_id}/callback/redeliver",
        name="redeliverCallback",
        tag="Runs",
        summary="Send a callback again",
        description="Regardless of whether it was delivered.",
        scope="run",
        parameters=[RUN_ID],
        answers={
            202: answer("The callback will be sent.", schemas.CallbackSchema, {"callback": texts.CALLBACK})
        },
        errors=["not_found", "not_found_or_running"],
    )
