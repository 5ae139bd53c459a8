"""The console: a page at ``/`` for browsers, which shows and starts runs over the same API as every other client.

The page and its files hold nothing of the server's and need no token. The page asks for one, and sends it as a header
with each request. Imported by the API factory only; imports ``api.responses``.
"""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Response, abort, request

from light_run.api.responses import packaged

# Only the modules of the page itself run, by nonce, as the artifacts of runs are on the same origin. No string becomes
# HTML or a script in a browser that knows trusted types. Images come from artifacts, as data.
_CSP = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)

_STATIC = Path(__file__).parent / "static"
_VENDORED = {
    "preact.js": "htm/standalone.module.js",
    "anser.js": "anser/index.js",
    "uplot.js": "uplot/uPlot.esm.js",
    "uplot.css": "uplot/uPlot.min.css",
    "codemirror.js": "codemirror/codemirror.js",
    "codemirror.css": "codemirror/codemirror.css",
    "codemirror-javascript.js": "codemirror/javascript.js",
    "codemirror-python.js": "codemirror/python.js",
    "codemirror-shell.js": "codemirror/shell.js",
}
# What the page loads, by name.
FILES = {
    **{file.name: file for file in sorted(_STATIC.iterdir())},
    **{name: packaged.VENDORED / path for name, path in _VENDORED.items()},
}

# What the first view needs: fetched beside each other, not one after the other. The rest waits until it is used.
_FIRST = ("preact.js", "api.js", "lazy.js", "router.js", "live.js", "format.js", "runs.js")


def register_console(app: Flask) -> None:
    """Add the page to `app`, ahead of the checks of tokens and origins: it has no data, and anybody may link to it.

    A client of ``/`` that does not prefer HTML gets the 404 of an unknown path, after those checks.
    """
    routes = Blueprint("console", __name__, template_folder="templates")
    # Without a redirect for an absolute URL that has no path.
    routes.get("/", strict_slashes=False)(_page)
    # Below a path of its own, so that the page's links are right under any prefix that a proxy adds.
    routes.get("/console/<filename>")(_file)
    app.register_blueprint(routes)

    def serve() -> Response | None:
        if request.endpoint == "console._page" and _wants_page():
            return _page()
        if request.endpoint == "console._file":
            return _file(**(request.view_args or {}))
        return None

    app.before_request(serve)


def _page() -> Response:
    if not _wants_page():
        abort(404)
    response = packaged.page("console.html", _CSP, modules=_FIRST)
    response.vary.add("Accept")
    return response


def _file(filename: str) -> Response:
    if filename not in FILES:
        abort(404)
    return packaged.response(FILES[filename])


def _wants_page() -> bool:
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
