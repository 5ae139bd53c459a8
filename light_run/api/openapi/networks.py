"""The routes for networks."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import schemas
from light_run.api.openapi.operation import Json, Operation, answer

_NAME: Json = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The network's name.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"},
    "example": "team-a",
}


def _body(schema: str, example: Json, *, required: bool) -> Json:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {"required": required, "content": {"application/json": content}}


def operations() -> Iterator[Operation]:
    """Return all of them."""
    yield Operation(
        method="post",
        path="/networks",
        name="createNetwork",
        tag="Networks",
        summary="Create a network",
        description="A network that exists is left as it is, unless `exclusive`. Containers on it do not reach each "
        "other unless `iccEnabled`. Runs name it in `networks`.",
        scope="network",
        body=_body("NetworkRequest", {"name": "team-a", "iccEnabled": True}, required=True),
        answers={201: answer("It exists.", schemas.NetworkSchema, {"name": "team-a", "created": True})},
        errors=["network_exists", "network_conflict", "engine_unavailable"],
    )
    yield Operation(
        method="get",
        path="/networks/{name}",
        name="hasNetwork",
        tag="Networks",
        summary="Ask whether a network exists",
        scope="network",
        parameters=[_NAME],
        answers={
            200: answer("Whether it exists.", schemas.NetworkStateSchema, {"name": "team-a", "exists": True})
        },
        errors=["engine_unavailable"],
    )
    yield Operation(
        method="delete",
        path="/networks/{name}",
        name="deleteNetwork",
        tag="Networks",
        summary="Delete a network",
        description="Only one that was created here. A network that does not exist is fine.",
        scope="network",
        parameters=[_NAME],
        answers={204: {"description": "It does not exist any more."}},
        errors=["network_in_use", "network_not_found", "engine_unavailable"],
    )
    yield Operation(
        method="post",
        path="/networks/cleanup",
        name="cleanUpNetworks",
        tag="Networks",
        summary="Delete unused networks",
        description="Those created here whose name begins with `prefix` (default: all), that are older than "
        "`maxAgeMs` (default: 30 minutes), and to which no container is connected.",
        scope="network",
        body=_body("NetworkCleanup", {"prefix": "team-", "maxAgeMs": 60000}, required=False),
        answers={200: answer("How many were deleted.", schemas.NetworkCleanupResultSchema, {"removed": 2})},
        errors=["engine_unavailable"],
    )
