"""The API's description of itself: OpenAPI 3.1 at ``/openapi.json``, and to read at ``/docs``."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256

from flask import Blueprint, Response, render_template

from light_run.api.requests import strict_json
from light_run.api.requests.policy import Policy

# All the page needs is in it: nothing else is to be loaded, from here or from elsewhere.
_CSP = (
    "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def blueprint(policy: Policy, *, body_limit: int, secured: bool) -> Blueprint:
    """The routes that describe the API as it is under `policy`; `secured` is true where it asks for tokens."""
    routes = Blueprint("openapi", __name__, template_folder="templates")

    # Made when somebody asks: a server that nobody reads of does not pay for it.
    @cache
    def described() -> bytes:
        from light_run.api.openapi import description

        return strict_json.serialise(description.describe(policy, body_limit=body_limit, secured=secured))

    @cache
    def rendered() -> tuple[str, str]:
        from light_run.api.openapi import page

        style = render_template("docs.css")
        text = render_template("docs.html", style=style, **page.view(described()))
        return text, _CSP.format(b64encode(sha256(style.encode()).digest()).decode())

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(described(), content_type="application/json")

    @routes.get("/docs")
    def docs() -> Response:
        text, csp = rendered()
        return Response(text, headers={"Content-Security-Policy": csp})

    return routes
