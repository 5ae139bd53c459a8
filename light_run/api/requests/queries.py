"""Query parameters that several routes have."""

from __future__ import annotations

from flask import request

from light_run.errors import Fault, InvalidSpec


def flag(name: str) -> bool:
    """Return the value of a parameter that is ``true`` or ``false``, False without it. Raises InvalidSpec."""
    given = request.args.get(name, "false")
    if given not in {"true", "false"}:
        raise InvalidSpec([Fault((name,), "invalid_value", f"{name} must be true or false")])
    return given == "true"
