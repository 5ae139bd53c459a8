"""Error responses: always JSON, never a stack trace."""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from light_run import errors
from light_run.api.responses.json import error_response

_log = logging.getLogger(__name__)

_WORDS = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "payload_too_large",
    416: "range_not_satisfiable",
    500: "internal_error",
}

_ANSWERS: dict[type[errors.LightRunError], tuple[int, str]] = {
    errors.RunNotFound: (404, "not_found"),
    errors.RunNotStarted: (409, "not_started"),
    errors.StdinClosed: (409, "stdin_closed"),
    errors.NetworkExists: (409, "network_exists"),
    errors.NetworkConflict: (409, "network_conflict"),
    errors.NetworkInUse: (409, "network_in_use"),
    errors.NetworkNotFound: (404, "network_not_found"),
    errors.Overloaded: (503, "overloaded"),
    errors.IdempotencyConflict: (409, "idempotency_conflict"),
    errors.PayloadTooLarge: (413, "payload_too_large"),
    errors.InsufficientStorage: (507, "insufficient_storage"),
    errors.InvalidPath: (400, "invalid_path"),
    errors.ArtifactNotFound: (404, "artifact_not_found"),
    errors.EngineUnavailable: (503, "engine_unavailable"),
}


def register(app: Flask) -> None:
    """Register handlers with `app` for all exceptions."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(errors.InvalidSpec, _invalid)
    app.register_error_handler(Exception, _any)


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    if status < 400:
        return Response(status=status, headers=error.get_headers())
    message = error.description if error.description != type(error).description else None
    response = error_response(_WORDS.get(status, "error"), status, message)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    if status == 408:
        # The rest of the body may still arrive, and would be read as another request.
        response.headers["Connection"] = "close"
    return response


def _invalid(error: errors.InvalidSpec) -> Response:
    details = [{"path": fault.path, "code": fault.code, "message": fault.message} for fault in error.faults]
    return error_response("bad_request", 400, details=details)


# Seconds after which a client should retry if the engine does not respond.
_ENGINE_SECONDS = 5


def _any(error: Exception) -> Response:
    for kind, (status, word) in _ANSWERS.items():
        if isinstance(error, kind):
            message = str(error) if status != 404 else None
            response = error_response(word, status, message)
            if status == 503:
                response.headers["Retry-After"] = str(getattr(error, "retry_after", _ENGINE_SECONDS))
            return response
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return error_response("internal_error", 500)
