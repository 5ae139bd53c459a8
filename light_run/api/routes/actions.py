"""``POST /runs/ID/ACTION``, for each action of the table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from flask import Blueprint, Response, request

from light_run.actions import ACTIONS, Action
from light_run.api.auth import bearer
from light_run.api.requests import body, schema
from light_run.api.requests.actions import BODIES
from light_run.api.responses.json import error_response, no_content
from light_run.api.responses.request_log import RUN
from light_run.errors import Overloaded, RunNotActive, RunNotFound
from light_run.runs.fairness import Places
from light_run.runs.service import RunService


class ActionRoutes:
    """The routes for the actions on a run. Those that wait need one of `waiters`; bodies are bounded as elsewhere."""

    def __init__(
        self, service: RunService, *, waiters: Places, body_limit: int, body_timeout: float = body.TIMEOUT
    ) -> None:
        self._service = service
        self._waiters = waiters
        self._body_limit = body_limit
        self._body_timeout = body_timeout
        self._schemas = {name: each.schema() for name, each in BODIES.items()}

    def blueprint(self) -> Blueprint:
        """Return the blueprint."""
        routes = Blueprint("actions", __name__)
        for action in ACTIONS:
            rule = f"/runs/<run_id>/{action.name}"
            routes.add_url_rule(rule, action.name, partial(self._act, action), methods=["POST"])
        return routes

    def _act(self, action: Action, run_id: str) -> Response:
        request.environ[RUN] = run_id
        arguments = self._arguments(action)
        with ExitStack() as resources:
            if action.waits and not resources.enter_context(self._waiters.reserve(bearer.owner())):
                raise Overloaded("too many requests are waiting for a run; try again")
            try:
                self._call(action)(run_id, *arguments)
            except (RunNotFound, RunNotActive):
                return error_response("not_found_or_done", 404)
        return no_content()

    def _call(self, action: Action) -> Callable[..., None]:
        # It is called with the id of the run, and with what the body asks for, if the action has one.
        calls = {
            "cancel": self._service.stop,
            "stop": self._service.stop,
            "pause": self._service.pause,
            "resume": self._service.resume,
        }
        return calls[action.name]

    def _arguments(self, action: Action) -> tuple[object, ...]:
        if action.name not in BODIES:
            return ()
        sent = body.read(request, self._body_limit, self._body_timeout) or b"{}"
        return (BODIES[action.name].parse(schema.load(self._schemas[action.name], sent)),)
