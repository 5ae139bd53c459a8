"""The API's description of itself: OpenAPI 3.1 at ``/openapi.json``, and in Swagger UI at ``/docs``."""

from __future__ import annotations

from functools import cache

from flask import Blueprint, Response

from light_run.api.requests import strict_json
from light_run.api.requests.policy import Policy


def blueprint(policy: Policy, *, body_limit: int, secured: bool) -> Blueprint:
    """The route that describes the API as it is under `policy`; `secured` is true where it asks for tokens."""
    routes = Blueprint("openapi", __name__)

    # Made when somebody asks: a server that nobody reads of does not pay for it.
    @cache
    def described() -> bytes:
        from light_run.api.openapi import description

        return strict_json.serialise(description.describe(policy, body_limit=body_limit, secured=secured))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(described(), content_type="application/json")

    return routes
