"""Pages of the package and the files that they load, compressed for browsers that accept it."""

from __future__ import annotations

import gzip
import secrets
from functools import cache
from pathlib import Path

from flask import Response, render_template, request

# Released files of other projects: listed in vendored.json there, fetched by scripts/vendor.py.
VENDORED = Path(__file__).parents[1] / "vendored"

_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}


def page(template: str, policy: str, **context: object) -> Response:
    """Return a page with the content security `policy`, in which ``{nonce}`` stands for the nonce of the template."""
    nonce = secrets.token_urlsafe(16)
    made = Response(render_template(template, nonce=nonce, **context))
    made.headers["Content-Security-Policy"] = policy.format(nonce=nonce)
    # A page from a cache would have a nonce that is not new.
    made.headers["Cache-Control"] = "no-store"
    made.headers["Referrer-Policy"] = "no-referrer"
    return made


def response(path: Path) -> Response:
    """Return the response with the file at `path`, which the browser may keep and has to ask about again."""
    zipped = request.accept_encodings.quality("gzip") > 0
    made = Response(_content(path, zipped=zipped), mimetype=_TYPES[path.suffix])
    if zipped:
        made.headers["Content-Encoding"] = "gzip"
    made.vary.add("Accept-Encoding")
    made.headers["Cache-Control"] = "no-cache"
    made.add_etag()
    made.make_conditional(request)
    return made


@cache
def _content(path: Path, *, zipped: bool) -> bytes:
    content = path.read_bytes()
    # The same bytes in every process, as the ETag is made of them.
    return gzip.compress(content, mtime=0) if zipped else content
