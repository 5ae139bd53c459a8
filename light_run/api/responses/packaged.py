"""Files of the package that pages load: scripts and style sheets, compressed for browsers that accept it."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

from flask import Response, request

# Released files of other projects: listed in vendored.json there, fetched by scripts/vendor.py.
VENDORED = Path(__file__).parents[1] / "vendored"

_TYPES = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain", ".svg": "image/svg+xml"}


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
