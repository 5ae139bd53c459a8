"""The routes for the actions on a run, described from their table."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.actions import ACTIONS
from light_run.api.openapi.operation import RUN_ID, Operation
from light_run.api.requests.actions import BODIES, ActionBody


def operations() -> Iterator[Operation]:
    """Yield one for each action."""
    for action in ACTIONS:
        body = BODIES.get(action.name)
        yield Operation(
            method="post",
            path=f"/runs/{{run_id}}/{action.name}",
            name=f"{action.name}Run",
            tag="Runs",
            summary=action.summary,
            description=action.description,
            scope="run",
            parameters=[RUN_ID],
            body=None if body is None else _content(action.name, body),
            answers={204: {"description": action.done}},
            errors=action.errors,
        )


def _content(name: str, body: ActionBody) -> dict[str, object]:
    schema = {"$ref": f"#/components/schemas/{name.capitalize()}Request"}
    return {
        "required": False,
        "content": {"application/json": {"schema": schema, "examples": body.examples}},
    }
