"""``/networks``: networks of the engine for the runs of a client."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from light_run.api.auth import bearer
from light_run.api.requests import body, schema
from light_run.api.requests.networks import cleanup_schema, name_of, network_schema, network_spec
from light_run.api.responses.json import json_response, no_content
from light_run.runs.service import RunService

DEFAULT_AGE = 30 * 60 * 1000


def blueprint(service: RunService, *, body_limit: int, body_timeout: float) -> Blueprint:
    """Return the routes; a body has at most `body_limit` bytes and `body_timeout` seconds."""
    routes = Blueprint("networks", __name__)
    create_schema, clean_schema = network_schema(), cleanup_schema()

    def loaded(of: Any, empty: bytes) -> dict[str, Any]:
        return schema.load(of, body.read(request, body_limit, body_timeout) or empty)

    @routes.post("/networks")
    def create() -> Response:
        asked = loaded(create_schema, b"")
        spec = network_spec(asked, bearer.owner() or "")
        service.networks.create(spec, exclusive=asked.get("exclusive", False))
        return json_response({"name": spec.name, "created": True}, 201)

    @routes.post("/networks/cleanup")
    def clean_up() -> Response:
        asked = loaded(clean_schema, b"{}")
        age = asked.get("maxAgeMs", DEFAULT_AGE) / 1000
        removed = service.networks.clean_up(
            asked.get("prefix", ""), age, bearer.owner(), service.networks_in_use
        )
        return json_response({"removed": removed})

    @routes.get("/networks/<network:name>")
    def look(name: str) -> Response:
        return json_response({"name": name, "exists": service.networks.exists(name_of(name))})

    @routes.delete("/networks/<network:name>")
    def delete(name: str) -> Response:
        service.networks.delete(name_of(name), bearer.owner(), service.networks_in_use)
        return no_content()

    return routes
