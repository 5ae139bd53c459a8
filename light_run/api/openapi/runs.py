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
        "description": "Parts in any order, `request` at best first. Any other part is a file; its `filename` is its "
        "path.",
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
    """All of them; `body_limit` is in bytes."""
    yield from _running(body_limit)
    yield from _looking()
    yield from _ending()


def _running(body_limit: int) -> Iterator[Operation]:
    timing = sent("What the time was spent on, as in `timings`.")
    location = sent("The same as `url`.", pattern="^/runs/")
    accepted = {"id": texts.RUN_ID, "status": "running", "url": f"/runs/{texts.RUN_ID}"}
    schema = {"$ref": "#/components/schemas/RunRequest"}
    yield Operation(
        method="post",
        path="/run",
        name="startRun",
        tag="Runs",
        summary="Run a container",
        description="Answers with the final state, whatever became of the run; with `detached`, as soon as the run "
        "is accepted. The body is read as JSON whatever its Content-Type says, but for `multipart/form-data`, which "
        "brings files along as they are. An unknown field is a fault, and "
        f"nothing is converted from one type to another. A body in JSON has {body_limit} bytes at most.",
        scope="run",
        parameters=[
            header(
                "Idempotency-Key",
                "A request that is sent again with the same key and body gives the same run, for 24 hours.",
                {"type": "string", "maxLength": 255},
            )
        ],
        body={
            "required": True,
            "content": {
                "application/json": {
                    "schema": schema,
                    "examples": {
                        "waiting": {"summary": "Wait for the end", "value": texts.REQUEST},
                        "detached": {"summary": "Be called back at the end", "value": texts.DETACHED},
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
                "The run is accepted and goes on by itself.",
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
    "With `createdAt`, `owner` and `request`: what was asked for; without the output.",
    {"type": "string", "enum": ["true", "false"], "default": "false"},
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
            _WITH_REQUEST,
            query("status", "Only those.", {"type": "string", "enum": [str(each) for each in Status]}),
            query(
                "limit",
                "How many, at most.",
                {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": MOST_LISTED},
            ),
            query(
                "before",
                "Go on behind the run with this id.",
                {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
            ),
            query(
                "label",
                "`KEY=VALUE`: only runs with that label. Given several times: with all of them.",
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
        summary="Look at a run",
        description="With `wait`, once it has ended or the time is over; at once where too many wait already.",
        parameters=[
            RUN_ID,
            query(
                "wait", "Seconds.", {"type": "number", "minimum": 0, "maximum": int(MOST_WAIT), "default": 0}
            ),
            query(
                "output",
                "How the state has the output. Left out: as `output` of the request says.",
                {"type": "string", "enum": list(OUTPUTS)},
            ),
            _WITH_REQUEST,
        ],
        answers={200: answer("Its state.", schemas.RunStateSchema, texts.STATE)},
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
        answers={202: answer("It is due.", schemas.CallbackSchema, {"callback": texts.CALLBACK})},
        errors=["not_found", "not_found_or_running"],
    )
