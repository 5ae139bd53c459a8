"""The HTTP API: routes, schemas, authorization and errors. Only this package uses Flask and marshmallow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flask import Flask, Response
from werkzeug.routing import BaseConverter

from light_run.api import openapi
from light_run.api.auth import bearer, origins, places
from light_run.api.auth.origins import OriginPolicy
from light_run.api.auth.throttle import Network
from light_run.api.console import register_console
from light_run.api.openapi.page import register_docs
from light_run.api.requests import body
from light_run.api.requests.policy import Policy
from light_run.api.responses import errors, slow_clients, traced
from light_run.api.responses.request_log import RequestLog
from light_run.api.responses.slow_clients import SendLimit
from light_run.api.routes import artifacts, health, info, maintenance, metrics, networks, stdin
from light_run.api.routes.actions import ActionRoutes
from light_run.api.routes.logs import LogRoutes
from light_run.api.routes.output import OutputRoutes
from light_run.api.routes.places import OutputPlaces
from light_run.api.routes.runs import RunRoutes, waiting_threads
from light_run.config.tokens import TokenFile
from light_run.engine.spec import MIB
from light_run.runs.fairness import Places
from light_run.runs.service import RunService
from light_run.runs.tracing import Tracer

__all__ = ["OriginPolicy", "Policy", "create_api"]


class _Anything(BaseConverter):
    # Includes slashes and newlines, so that an odd path gets the response of its route.
    regex = r"[\s\S]*"
    part_isolating = False


class _NetworkName(BaseConverter):
    # A path with a route of its own is not the name of an artifact.
    regex = r"(?!cleanup$)[^/]+"


def create_api(
    service: RunService,
    *,
    token: str | None,
    body_limit: int,
    policy: Policy,
    upload_limit: int = 1024 * MIB,
    threads: int = 64,
    accel: str | None = None,
    named: TokenFile | None = None,
    trusted: Sequence[Network] = (),
    body_timeout: float = body.TIMEOUT,
    send_timeout: float = slow_clients.TIMEOUT,
    followers: int = 16,
    with_console: bool = True,
    browsers: OriginPolicy | None = None,
    page: metrics.Page = metrics.empty,
    tracer: Tracer | None = None,
) -> Flask:
    """Return the Flask application in front of `service`; ``/`` is the console where `with_console`.

    `body_limit` and `upload_limit`, that of a body with files, are in bytes; `threads` is how many requests
    the server takes at once, of which sync runs and uploads get a part; `accel` is the prefix of nginx's
    internal location for the artifacts. `named` are tokens beside `token`, `trusted` the proxies whose
    X-Forwarded-For is believed; a body that takes longer than `body_timeout` seconds to arrive is refused,
    a client that takes nothing of an answer for `send_timeout` seconds is dropped. Up to `followers`
    requests, beyond `threads`, follow a run. `browsers` says which web pages may use the server; none is
    the default.
    `page` makes what ``/metrics`` answers. `tracer` takes a span for each request.
    """
    app = Flask("light_run", static_folder=None)
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A redirect to another spelling of a path does not help API clients, and loses the body of a POST.
    app.url_map.merge_slashes = False
    app.url_map.converters["anything"] = _Anything
    app.url_map.converters["network"] = _NetworkName
    secured = token is not None or named is not None
    policy = replace(
        policy,
        is_tenant=lambda: bearer.owner() is not None,
        owns_network=lambda name: service.networks.owns(name, bearer.owner() or ""),
    )
    if with_console:
        register_console(app)
    errors.register(app)
    origins.register(app, browsers or OriginPolicy(), secured=secured)
    register_docs(app, with_console=with_console)
    bearer.register(app, service, token, named, trusted)
    if named is not None:
        places.register(app, threads + followers)
    for blueprint in (health.blueprint(service), metrics.blueprint(page), info.blueprint(service, policy)):
        app.register_blueprint(blueprint)
    waiters = Places(waiting_threads(threads))
    routes = RunRoutes(
        service,
        policy=policy,
        body_limit=body_limit,
        upload_limit=upload_limit,
        body_timeout=body_timeout,
        waiters=waiters,
    )
    app.register_blueprint(routes.blueprint())
    actions = ActionRoutes(service, waiters=waiters, body_limit=body_limit, body_timeout=body_timeout)
    app.register_blueprint(actions.blueprint())
    app.register_blueprint(
        stdin.blueprint(service, waiters=waiters, body_limit=upload_limit, body_timeout=body_timeout)
    )
    app.register_blueprint(networks.blueprint(service, body_limit=body_limit, body_timeout=body_timeout))
    app.register_blueprint(maintenance.blueprint(service))
    readers = OutputPlaces(followers)
    app.register_blueprint(LogRoutes(service, readers).blueprint())
    app.register_blueprint(OutputRoutes(service, readers).blueprint())
    app.register_blueprint(artifacts.blueprint(service, accel=accel))
    app.register_blueprint(openapi.blueprint(policy, body_limit=body_limit, secured=secured))
    app.after_request(_no_sniffing)
    app.wsgi_app = RequestLog(SendLimit(app.wsgi_app, send_timeout))  # type: ignore[method-assign]
    if tracer is not None:
        traced.register(app, tracer)
    return app


def _no_sniffing(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
