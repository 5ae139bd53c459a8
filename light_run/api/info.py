"""``GET /info``: what the service is like, for those who may use it."""

from __future__ import annotations

from flask import Blueprint, Response

from light_run import __version__
from light_run.api import auth
from light_run.api.policy import Policy
from light_run.api.responses import json_response
from light_run.runs.service import RunService


def blueprint(service: RunService, policy: Policy) -> Blueprint:
    """The route that ``light-run doctor`` asks; it names nothing that a token may not know."""
    routes = Blueprint("info", __name__)

    @routes.get("/info")
    def info() -> Response:
        found, asking = service.health(), auth.caller()
        free, total = service.artifacts.room()
        allowed = [name for name in found.runtimes if name in policy.runtimes]
        return json_response(
            {
                "version": __version__,
                "docker": found.docker,
                "engine": {"name": found.engine, "runtimes": allowed, "missingLimits": found.missing_limits},
                "workspace": found.workspace,
                "disk": {"freeBytes": free, "totalBytes": total},
                "token": {
                    "name": asking.name,
                    "scopes": sorted(asking.scopes),
                    "required": bool(asking.digest),
                },
            }
        )

    return routes
