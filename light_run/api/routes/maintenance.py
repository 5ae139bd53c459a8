"""``POST /maintenance``: removes unused images, networks and leftovers, as the server does every hour."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from light_run.api.responses.json import json_response
from light_run.runs.execution.maintenance import MaintenanceRecord
from light_run.runs.presentation import timestamp
from light_run.runs.service import RunService


def maintenance_report(record: MaintenanceRecord) -> dict[str, Any]:
    """Return what was removed, for JSON."""
    report = record.report
    return {
        "at": timestamp(record.at),
        "durationMs": round(record.duration * 1000),
        "containers": report.containers,
        "workspaces": report.workspaces,
        "cacheImages": report.step_images,
        "danglingImages": report.unnamed_images,
        "freedBytes": report.freed_bytes,
        "networks": report.networks,
        "failed": list(report.failed),
    }


def blueprint(service: RunService) -> Blueprint:
    """Return the route that ``light-run maintenance`` uses."""
    routes = Blueprint("maintenance", __name__)

    @routes.post("/maintenance")
    def maintain() -> Response:
        return json_response(maintenance_report(service.maintenance.run()))

    return routes
