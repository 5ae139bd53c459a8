"""``GET /health``."""

from __future__ import annotations

from flask import Blueprint, Response

from light_run.api.responses.json import json_response
from light_run.runs.service import RunService


def blueprint(service: RunService) -> Blueprint:
    """The route that says how the service is; it needs no token."""
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> Response:
        found = service.health()
        if not found.docker:
            return json_response({"status": "degraded", "docker": False}, 503)
        if found.missing_limits:
            message = f"no run is started: the engine cannot limit {', '.join(found.missing_limits)}"
            return json_response({"status": "degraded", "docker": True, "message": message}, 503)
        body = {"status": "ok", "docker": True}
        return json_response({**body, "workspace": found.workspace} if found.workspace else body)

    return routes
