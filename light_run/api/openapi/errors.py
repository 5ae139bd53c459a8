"""Every error word of the API: its status, what it says, and the headers that come with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from light_run.api.openapi.schemas import ErrorSchema

Json = dict[str, Any]

WORDS: dict[str, tuple[int, str]] = {
    "bad_request": (400, "The request is no HTTP or no JSON (`message`), or has faults (`details`)."),
    "invalid_path": (400, "The path leads outside, in whatever spelling."),
    "unauthorized": (401, "No token, or one that is not known."),
    "forbidden": (403, "The token lacks the scope for this."),
    "origin_not_allowed": (403, "The request is that of a web page whose origin is not allowed."),
    "not_found": (404, "There is no such run."),
    "not_found_or_done": (404, "There is no such run, or it has ended."),
    "not_found_or_running": (404, "There is no such run, or it has not ended."),
    "artifact_not_found": (404, "The run has no such file or directory."),
    "method_not_allowed": (405, "The route does not know the method."),
    "request_timeout": (408, "The headers or the body took too long to arrive."),
    "network_not_found": (404, "light-run has created no network of that name."),
    "network_exists": (409, "There is a network of that name."),
    "network_conflict": (409, "The addresses overlap with those of another network."),
    "network_in_use": (409, "A container is connected to the network."),
    "not_started": (409, "The run has no container at work yet."),
    "stdin_closed": (409, "The run is not interactive, or its standard input has ended."),
    "idempotency_conflict": (409, "The `Idempotency-Key` was used with another body."),
    "payload_too_large": (413, "The body is longer than the server takes."),
    "uri_too_long": (414, "The request line is longer than 8190 bytes."),
    "range_not_satisfiable": (416, "`Range` begins behind the end of the file."),
    "misdirected_request": (421, "A server without a token does not go by that name (`Host`)."),
    "too_many_requests": (429, "Too many wrong tokens came from this address."),
    "headers_too_large": (431, "Too many headers, or too long ones."),
    "internal_error": (500, "A fault of light-run; its log has the rest."),
    "not_implemented": (501, "A Transfer-Encoding other than chunked."),
    "engine_unavailable": (503, "The container engine does not answer."),
    "overloaded": (503, "There is no room for this now."),
    "insufficient_storage": (507, "The server has no room for the files of the run."),
}

# What may be answered before any route is looked at, and by every one.
EVERYWHERE = (
    *("bad_request", "request_timeout", "uri_too_long", "headers_too_large", "internal_error"),
    *("not_implemented", "origin_not_allowed", "misdirected_request"),
)
GUARDED = ("unauthorized", "forbidden", "too_many_requests")

_SECONDS = {
    "description": "Seconds to wait before the next try.",
    "schema": {"type": "integer", "minimum": 1},
}
_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string", "pattern": "^Bearer"}}},
    405: {"Allow": {"description": "The methods that the route knows.", "schema": {"type": "string"}}},
    416: {"Content-Range": {"description": "`bytes */LENGTH`", "schema": {"pattern": r"^bytes \*/\d+$"}}},
    429: {"Retry-After": _SECONDS},
    503: {"Retry-After": _SECONDS},
}


def components() -> Iterator[tuple[str, Json]]:
    """Each word as a response that operations refer to."""
    for word in WORDS:
        yield word, _response([word])


def responses(*words: str) -> dict[str, Any]:
    """The responses, by status, of an operation that answers `words`."""
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
