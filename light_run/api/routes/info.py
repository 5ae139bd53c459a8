"""``GET /info``: the version, the engine and the limits of the service."""

from __future__ import annotations

from flask import Blueprint, Response

from light_run.api.auth import bearer
from light_run.api.requests.policy import Policy
from light_run.api.responses.findings import findings
from light_run.api.responses.json import json_response
from light_run.api.routes.maintenance import maintenance_report
from light_run.runs.service import RunService
from light_run.version import __version__


def blueprint(service: RunService, policy: Policy) -> Blueprint:
    """Return the route that ``light-run doctor`` uses."""
    routes = Blueprint("info", __name__)

    @routes.get("/info")
    def info() -> Response:
        found, asking = service.health(), bearer.caller()
        free, total = service.artifacts.room()
        last = service.maintenance.last
        allowed = [name for name in found.runtimes if name in policy.runtimes]
        described = {
            "version": __version__,
            "docker": found.docker,
            "engine": {
                "name": found.engine,
                "address": found.address,
                "runtimes": allowed,
                "missingLimits": found.missing_limits,
            },
            "workspace": found.workspace,
            "firewall": found.firewall,
            "disk": {"freeBytes": free, "totalBytes": total, "guards": found.disk_guards},
            "maintenance": None if last is None else maintenance_report(last),
            "token": {
                "name": asking.name,
                "scopes": sorted(asking.scopes),
                "required": bool(asking.digest),
            },
        }
        return json_response({**described, "findings": findings(described)})

    return routes
