"""The page at ``/docs``: Swagger UI with the look of the console.

Like the console, the page and its files are the package's own and need no token. The description that the page loads
needs one: that of the console in the same tab, or the password that the browser asks for.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Response, abort, request

from light_run.api import console
from light_run.api.responses import packaged

# Only what the page itself names is run, and nothing is loaded from elsewhere. The nonce rather than 'self': the
# artifacts of runs are on the same origin. Swagger UI's style sheet has its images in it, as data.
_CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_STATIC = Path(__file__).parent / "static"
_SWAGGER_UI = packaged.VENDORED / "swagger-ui-dist"
FILES = {
    "docs.css": _STATIC / "docs.css",
    "docs.js": _STATIC / "docs.js",
    "load.js": console.FILES["load.js"],
    "theme.css": console.FILES["theme.css"],
    **{
        name: _SWAGGER_UI / name
        for name in ("swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")
    },
}


def register_docs(app: Flask, *, with_console: bool) -> None:
    """Add the page to `app`, to be called ahead of the check of tokens; it links to the console `with_console`."""
    routes = Blueprint("docs", __name__, template_folder="templates")

    @routes.get("/docs")
    def docs() -> Response:
        return packaged.page("docs.html", _CSP, with_console=with_console)

    # Below the page's own path, so that its links to them are right under any prefix that a proxy adds.
    @routes.get("/docs/<filename>")
    def docs_file(filename: str) -> Response:
        if filename not in FILES:
            abort(404)
        return packaged.response(FILES[filename])

    def serve() -> Response | None:
        if request.path == "/docs" or request.path.startswith("/docs/"):
            if request.routing_exception is not None:
                raise request.routing_exception
            return docs_file(**request.view_args) if request.view_args else docs()
        return None

    app.register_blueprint(routes)
    app.before_request(serve)
