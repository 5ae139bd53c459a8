"""All error codes of the API, with their statuses, descriptions and headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from light_run.api.openapi.schemas import ErrorSchema

Json = dict[str, Any]

WORDS: dict[str, tuple[int, str]] = {
    "bad_request": (
        400,
        "The request is not HTTP or not JSON (`message`), or fields are invalid (`details`).",
    ),
    "invalid_path": (400, "The path has `..` in it, in any spelling."),
    "unauthorized": (401, "The token is missing or unknown."),
    "forbidden": (403, "The token does not have the required scope."),
    "origin_not_allowed": (403, "The request comes from a web page whose origin is not allowed."),
    "not_found": (404, "The run does not exist."),
    "not_found_or_done": (404, "The run does not exist or has ended."),
    "not_found_or_running": (404, "The run does not exist or has not ended."),
    "artifact_not_found": (404, "The run has no such artifact."),
    "method_not_allowed": (405, "The route does not support the method."),
    "request_timeout": (408, "The headers or the body took too long to arrive."),
    "network_not_found": (404, "light-run has created no network of that name."),
    "network_exists": (409, "A network of that name exists."),
    "network_conflict": (409, "The subnet overlaps with another network."),
    "network_in_use": (409, "A container is connected to the network."),
    "not_started": (409, "The container of the run has not been started yet."),
    "stdin_closed": (409, "The run is not interactive, or its standard input has ended."),
    "idempotency_conflict": (409, "The `Idempotency-Key` was used with a different body."),
    "payload_too_large": (413, "The body is longer than the server allows."),
    "uri_too_long": (414, "The request line is longer than 8190 bytes."),
    "range_not_satisfiable": (416, "`Range` begins after the end of the file."),
    "misdirected_request": (421, "The server has no token, and `Host` is not a name of it."),
    "too_many_requests": (429, "This address sent too many wrong tokens."),
    "headers_too_large": (431, "The headers are too many or too long."),
    "internal_error": (500, "A bug in light-run; the server's log has the details."),
    "not_implemented": (501, "The Transfer-Encoding is not chunked."),
    "engine_unavailable": (503, "The container engine does not respond."),
    "overloaded": (503, "Too many runs or requests at the moment."),
    "insufficient_storage": (507, "The files of the run cannot be written."),
}

# What may be answered before any route is looked at, and by every one.
EVERYWHERE = (
    *("bad_request", "request_timeout", "uri_too_long", "headers_too_large", "internal_error"),
    *("not_implemented", "origin_not_allowed", "misdirected_request"),
)
GUARDED = ("unauthorized", "forbidden", "too_many_requests")

_SECONDS = {
    "description": "The seconds to wait before the next attempt.",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string", "pattern": "^Bearer"}}},
    405: {"Allow": {"description": "The methods that the route supports.", "schema": {"type": "string"}}},
    416: {"Content-Range": {"description": "`bytes */LENGTH`", "schema": {"pattern": r"^bytes \*/\d+$"}}},
    429: {"Retry-After": _SECONDS},
    503: {"Retry-After": _SECONDS},
}


def components() -> Iterator[tuple[str, Json]]:
    """Yield each error code with its response object, to which operations refer."""
    for word in WORDS:
        yield word, _response([word])


def responses(*words: str) -> dict[str, Any]:
    """Return the responses, by status, of an operation with the error codes `words`."""
    found: dict[str, Any] = {}
    for status in sorted({WORDS[word][0] for word in words}):
        same = [word for word in dict.fromkeys(words) if WORDS[word][0] == status]
        found[str(status)] = _named(same[0]) if len(same) == 1 else _response(same)
    return found


def _named(word: str) -> Json:
    return {"$ref": f"#/components/responses/{word}"}


def _response(words: list[str]) -> Json:
    status = WORDS[words[0]][0]
    sentences = [f"`{word}`: {WORDS[word][1]}" for word in words]
    example: Json = {"error": words[0]}
    if words[0] == "bad_request":
        fault = {"path": ["timeout"], "code": "out_of_range", "message": "timeout is 0; it must be more"}
        example["details"] = [fault]
    schema = {"allOf": [ErrorSchema, {"properties": {"error": {"enum": words}}}]}
    response: Json = {
        "description": " ".join(sentences),
        "content": {"application/json": {"schema": schema, "example": example}},
    }
    if status in _HEADERS:
        response["headers"] = {name: {"required": True, **each} for name, each in _HEADERS[status].items()}
    return response
