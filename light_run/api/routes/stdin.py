"""``POST /runs/ID/stdin``: the standard input of a run that is at work."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from flask import Blueprint, Response, request

from light_run.api.auth import bearer
from light_run.api.requests import body
from light_run.api.requests.queries import flag
from light_run.api.responses.json import error_response, no_content
from light_run.api.responses.request_log import RUN
from light_run.api.responses.slow_clients import is_gone
from light_run.errors import Overloaded, RunNotActive, RunNotFound
from light_run.runs.fairness import Places
from light_run.runs.service import RunService


def blueprint(
    service: RunService, *, waiters: Places, body_limit: int, body_timeout: float = body.TIMEOUT
) -> Blueprint:
    """Return the route. It waits for the command in one of the places of `waiters`; `body_limit` is in bytes."""
    routes = Blueprint("stdin", __name__)

    @routes.post("/runs/<run_id>/stdin")
    def write(run_id: str) -> Response:
        request.environ[RUN] = run_id
        close = flag("close")
        connection = request.environ.get("gunicorn.socket")
        given_up = (lambda: False) if connection is None else partial(is_gone, connection)
        with waiters.reserve(bearer.owner()) as taken:
            if not taken:
                raise Overloaded("too many requests are waiting for a run; try again")
            pieces = body.stream(request, body_limit, body_timeout)
            with closing(pieces), body.drained(request):
                try:
                    service.write_stdin(run_id, pieces, close=close, is_gone=given_up)
                except (RunNotFound, RunNotActive):
                    return error_response("not_found_or_done", 404)
        return no_content()

    return routes
