"""``/run`` and ``/runs``: start, list, get and delete runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from light_run.api.auth import bearer
from light_run.api.requests import body, schema
from light_run.api.requests.labels import label_filters
from light_run.api.requests.policy import Policy
from light_run.api.requests.queries import flag
from light_run.api.requests.schema import SPLIT
from light_run.api.requests.uploads import multipart
from light_run.api.responses.json import error_response, json_response, no_content, streamed_json
from light_run.api.responses.request_log import RUN
from light_run.api.responses.slow_clients import is_gone
from light_run.api.responses.traced import PARENT
from light_run.engine.references import is_id
from light_run.errors import (
    Fault,
    InvalidSpec,
    Overloaded,
    RunActive,
    RunNotFound,
)
from light_run.runs.fairness import Places
from light_run.runs.model import RunRecord, RunRequest, Status
from light_run.runs.presentation import run_state, server_timing
from light_run.runs.service import RunService

MOST_LISTED = 1000
MOST_WAIT = 3600.0

_NO_ID = Fault(
    ("image",), "not_allowed", "image is an id; this token has to give a name, such as alpine:3.19"
)
_NUMBER = re.compile(r"[0-9]+(?:[.][0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")


def waiting_threads(threads: int) -> int:
    """Return how many of `threads` may wait for the end of a run; the others serve requests that do not wait."""
    return max(1, threads - max(4, threads // 4))


class RunRoutes:
    """The routes for runs; `policy` limits the fields of requests, `body_limit` (bytes) the size of their bodies.

    A multipart body may have `upload_limit` bytes. A body has to arrive within `body_timeout` seconds.
    Requests that wait for the end of a run take one of `waiters`.
    """

    def __init__(
        self,
        service: RunService,
        *,
        policy: Policy,
        body_limit: int,
        upload_limit: int,
        waiters: Places,
        body_timeout: float = body.TIMEOUT,
    ) -> None:
        self._service = service
        self._policy = policy
        self._body_limit = body_limit
        self._upload_limit = upload_limit
        self._body_timeout = body_timeout
        self._schema = schema.run_schema(policy)
        self._waiters = waiters

    def blueprint(self) -> Blueprint:
        """Return the blueprint."""
        routes = Blueprint("runs", __name__)
        routes.post("/run")(self.submit)
        routes.get("/runs")(self.list)
        routes.get("/runs/<run_id>")(self.state)
        routes.post("/runs/<run_id>/callback/redeliver")(self.redeliver)
        routes.delete("/runs/<run_id>")(self.delete)
        return routes

    def submit(self) -> Response:
        """``POST /run``: return the final state, or the URL of a detached run."""
        boundary = multipart.boundary(request)
        asked = self._asked() if boundary is None else None
        if asked is not None and asked.detached:
            return _accepted(self._service.submit(asked))
        with self._waiters.reserve(bearer.owner()) as taken:
            if not taken:
                raise Overloaded("too many requests are waiting for a run; try again, or use detached")
            run = self._uploaded(boundary or "") if asked is None else self._service.submit(asked)
            # The files are on disk now: free their memory while the run is waited for.
            del asked
            if run.detached:
                return _accepted(run)
            request.environ[RUN] = run.id
            try:
                run = self._wait(run.id)
            except RunNotFound:
                # The stopping server has withdrawn it from the queue.
                raise Overloaded("the server is stopping; send the request again", retry_after=5) from None
        response = self._state(run, split=run.split_output)
        response.headers["Server-Timing"] = server_timing(run)
        return response

    def list(self) -> Response:
        """``GET /runs``: one page of runs, newest first."""
        asked, with_request = _list_query(), flag("request")
        try:
            if asked["before"] is not None and not bearer.sees(self._service.get(asked["before"])):
                raise RunNotFound("there is no such run")
            found, more = self._service.list(**asked, owner=bearer.owner())
        except RunNotFound:
            raise _fault("before", "not_found", "before must be the id of an existing run") from None
        response = json_response([run_state(run, request=with_request) for run in found])
        if more and found:
            following = {**asked, "before": found[-1].id}
            labels = following.pop("labels")
            query = [(name, str(value)) for name, value in following.items() if value is not None]
            query += [("label", f"{key}={value}") for key, value in labels]
            response.headers["Link"] = f'</runs?{urlencode(query)}>; rel="next"'
        if with_request and "Link" in response.headers:
            response.headers["Link"] = response.headers["Link"].replace("?", "?request=true&", 1)
        return response

    def state(self, run_id: str) -> Response:
        """``GET /runs/ID``: return the state, with ``?wait=`` once the run has ended or the time is over."""
        request.environ[RUN] = run_id
        if flag("request"):
            return json_response(run_state(self._service.get(run_id), request=True))
        wait, output = _wait_query(), _output_query()
        run = self._service.get(run_id)
        if wait:
            with self._waiters.reserve(bearer.owner()) as taken:
                # Without a place to wait, the current state is the response.
                if taken:
                    run = self._wait(run_id, wait)
        return self._state(run, split=run.split_output if output is None else output == SPLIT)

    def redeliver(self, run_id: str) -> Response:
        """``POST /runs/ID/callback/redeliver``: the callback is sent again, even if it was delivered."""
        request.environ[RUN] = run_id
        try:
            self._service.redeliver(run_id)
        except RunActive:
            return error_response("not_found_or_running", 404)
        return json_response({"callback": run_state(self._service.get(run_id))["callback"]}, 202)

    def delete(self, run_id: str) -> Response:
        """``DELETE /runs/ID``."""
        request.environ[RUN] = run_id
        try:
            self._service.delete(run_id)
        except (RunNotFound, RunActive):
            return error_response("not_found_or_running", 404)
        return no_content()

    def _asked(self) -> RunRequest:
        raw = body.read(request, self._body_limit, self._body_timeout)
        return self._request(schema.load(self._schema, raw), sha256(raw).hexdigest())

    def _uploaded(self, boundary: str) -> RunRecord:
        # A multipart request. A place in the queue is reserved before its files are read, which may take long.
        asking, key = bearer.caller(), _idempotency_key()
        pieces = body.stream(request, self._upload_limit, self._body_timeout)
        with closing(pieces), body.drained(request):
            if key is not None and self._service.replays.known(asking.name, key):
                return self._replayed(key, multipart.digest(pieces, boundary))
            with self._service.reserve(asking.name, asking.max_runs) as reservation:
                received = multipart.receive(
                    pieces, boundary, reservation.intake(), self._load_part, self._body_limit
                )
                asked = self._request(received.loaded, received.digest)
                return self._service.submit(asked, reservation)

    def _replayed(self, key: str, digest: str) -> RunRecord:
        run = self._service.replays.run(bearer.caller().name, key, digest)
        if run is None:
            raise Overloaded("the run of this Idempotency-Key was just deleted; send the request again", 1)
        return run

    def _load_part(self, raw: bytes) -> dict[str, Any]:
        return schema.load(self._schema, raw, optional=("files",))

    def _request(self, loaded: Mapping[str, Any], digest: str) -> RunRequest:
        asking = bearer.caller()
        if bearer.owner() is not None and is_id(loaded["image"]):
            raise InvalidSpec([_NO_ID])
        return RunRequest(
            spec=schema.run_spec(loaded, self._policy, bearer.owner() or ""),
            detached=loaded.get("detached", False),
            callback_url=loaded.get("callbackUrl"),
            callback_secret=loaded.get("callbackSecret"),
            idempotency_key=_idempotency_key(),
            body_digest=digest,
            trace=request.environ.get(PARENT),
            owner=asking.name,
            max_runs=asking.max_runs,
            labels=loaded.get("labels", {}),
            split_output=loaded.get("output") == SPLIT,
        )

    def _wait(self, run_id: str, seconds: float | None = None) -> RunRecord:
        # A client that has disconnected needs neither its place nor its thread.
        connection = request.environ.get("gunicorn.socket")
        return self._service.wait(
            run_id, seconds, None if connection is None else partial(is_gone, connection)
        )

    def _state(self, run: RunRecord, *, split: bool) -> Response:
        return streamed_json(self._service.state(run, split=split))


def _accepted(run: RunRecord) -> Response:
    request.environ[RUN] = run.id
    url = f"/runs/{run.id}"
    response = json_response({"id": run.id, "status": str(run.status), "url": url}, 202)
    response.headers["Location"] = url
    return response


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key", "").strip()
    if len(key) > 255:
        raise _fault("Idempotency-Key", "too_long", "Idempotency-Key has more than 255 characters")
    return key or None


def _list_query() -> dict[str, Any]:
    limit, status = request.args.get("limit"), request.args.get("status")
    if limit is not None and not (_is_digits(limit) and 1 <= int(limit) <= MOST_LISTED):
        raise _fault("limit", "out_of_range", f"limit must be a whole number from 1 to {MOST_LISTED}")
    statuses = [str(each) for each in Status]
    if status is not None and status not in statuses:
        raise _fault("status", "invalid_value", f"status must be one of {', '.join(statuses)}")
    return {
        "status": None if status is None else Status(status),
        "limit": MOST_LISTED if limit is None else int(limit),
        "before": request.args.get("before"),
        "labels": label_filters(request.args.getlist("label")),
    }


def _wait_query() -> float:
    given = request.args.get("wait", "0")
    # Python itself would accept underscores and spaces.
    wait = float(given) if _NUMBER.fullmatch(given) else -1.0
    if not 0 <= wait <= MOST_WAIT:
        raise _fault("wait", "out_of_range", f"wait must be a number of seconds from 0 to {MOST_WAIT:g}")
    return wait


def _output_query() -> str | None:
    given = request.args.get("output")
    if given not in (None, *schema.OUTPUTS):
        raise _fault("output", "invalid_value", f"output must be one of {', '.join(schema.OUTPUTS)}")
    return given


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _fault(name: str, code: str, message: str) -> InvalidSpec:
    return InvalidSpec([Fault((name,), code, message)])
