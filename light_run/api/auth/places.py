"""Request threads are shared between tokens, so that the requests of one leave some for those of others."""

from __future__ import annotations

from functools import partial

from flask import Flask, request

from light_run.api.auth import bearer
from light_run.api.responses.request_log import WHEN_SENT
from light_run.errors import Overloaded
from light_run.runs.fairness import Places


def register(app: Flask, threads: int) -> None:
    """Give each named token of `app` a fair share of the `threads`; register it behind the check of the tokens.

    Requests beyond it are refused with 503 ``overloaded``.
    """
    places = Places(threads)

    @app.before_request
    def take() -> None:
        owner = bearer.owner()
        if owner is None:
            return
        if not places.take(owner):
            raise Overloaded("this token has too many concurrent requests; try again", 1)
        request.environ[WHEN_SENT] = partial(places.give_back, owner)
