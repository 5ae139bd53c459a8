"""``GET /health``."""

from __future__ import annotations

from flask import Blueprint, Response

from light_run.api.responses.json import json_response
from light_run.engine.spec import Firewall
from light_run.runs.service import RunService

_UNPROTECTED = (
    "runs on the default network reach this host's services and the metadata address: the packet filter's rules "
    "cannot be set or seen by the server"
)


def blueprint(service: RunService) -> Blueprint:
    """Return the health check, which needs no token."""
    routes = Blueprint("health", __name__)

    @routes.get("/health")
    def health() -> Response:
        found = service.health()
        if not found.docker:
            return json_response({"status": "degraded", "docker": False}, 503)
        if found.missing_limits:
            message = f"no run is started: the engine cannot limit {', '.join(found.missing_limits)}"
            return json_response({"status": "degraded", "docker": True, "message": message}, 503)
        body: dict[str, object] = {"status": "ok", "docker": True}
        if found.workspace:
            body["workspace"] = found.workspace
        if found.firewall is Firewall.ABSENT:
            body["message"] = _UNPROTECTED
        return json_response(body)

    return routes
