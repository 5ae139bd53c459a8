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
        description="An existing network is left unchanged, unless `exclusive` is true. Containers on it cannot "
        "reach each other unless `iccEnabled`. Runs name it in `networks`.",
        scope="network",
        body=_body("NetworkRequest", {"name": "team-a", "iccEnabled": True}, required=True),
        answers={
            201: answer("The network exists.", schemas.NetworkSchema, {"name": "team-a", "created": True})
        },
        errors=["network_exists", "network_conflict", "engine_unavailable"],
    )
    yield Operation(
        method="get",
        path="/networks/{name}",
        name="hasNetwork",
        tag="Networks",
        summary="Check whether a network exists",
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
        description="Only networks that were created through light-run. It is no error if the network does not exist.",
        scope="network",
        parameters=[_NAME],
        answers={204: {"description": "The network does not exist."}},
        errors=["network_in_use", "network_not_found", "engine_unavailable"],
    )
    yield Operation(
        method="post",
        path="/networks/cleanup",
        name="cleanUpNetworks",
        tag="Networks",
        summary="Delete unused networks",
        description="Deletes networks that were created through light-run, whose names begin with `prefix` (default: "
        "all), that are older than `maxAgeMs` (default: 30 minutes), and that have no containers.",
        scope="network",
        body=_body("NetworkCleanup", {"prefix": "team-", "maxAgeMs": 60000}, required=False),
        answers={
            200: answer("The number of deleted networks.", schemas.NetworkCleanupResultSchema, {"removed": 2})
        },
        errors=["engine_unavailable"],
    )
