"""The API's description of itself: OpenAPI 3.1 at ``/openapi.json``, and in Swagger UI at ``/docs``."""

from __future__ import annotations

import secrets
from functools import cache

from flask import Blueprint, Response, abort, render_template

from light_run.api.requests import strict_json
from light_run.api.requests.policy import Policy
from light_run.api.responses import packaged
from light_run.version import __version__

# Only what the page itself names is run, and nothing is loaded from elsewhere. The nonce rather than 'self': the
# artifacts of runs are on the same origin. Swagger UI's style sheet has its images in it, as data.
_CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_FOLDER = packaged.VENDORED / "swagger-ui-dist"
_FILES = frozenset({"swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css"})


def blueprint(policy: Policy, *, body_limit: int, secured: bool) -> Blueprint:
    """The routes that describe the API as it is under `policy`; `secured` is true where it asks for tokens."""
    routes = Blueprint("openapi", __name__, template_folder="templates")

    # Made when somebody asks: a server that nobody reads of does not pay for it.
    @cache
    def described() -> bytes:
        from light_run.api.openapi import description

        return strict_json.serialise(description.describe(policy, body_limit=body_limit, secured=secured))

    @routes.get("/openapi.json")
    def openapi() -> Response:
        return Response(described(), content_type="application/json")

    @routes.get("/docs")
    def docs() -> Response:
        nonce = secrets.token_urlsafe(16)
        text = render_template("docs.html", version=__version__, nonce=nonce)
        # A page from a cache would have a nonce that is not new.
        headers = {"Content-Security-Policy": _CSP.format(nonce=nonce), "Cache-Control": "no-store"}
        return Response(text, headers=headers)

    # Below the page's own path, so that its links to them are right under any prefix that a proxy adds.
    @routes.get("/docs/<filename>")
    def docs_file(filename: str) -> Response:
        if filename not in _FILES:
            abort(404)
        return packaged.response(_FOLDER / filename)

    return routes
