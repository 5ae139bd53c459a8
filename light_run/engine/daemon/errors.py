"""How often the engine has failed this process."""

from __future__ import annotations

import threading
from http import HTTPStatus

from light_run.errors import EngineError, EngineRefused

# No answer, or a connection that broke; and an answer that says the fault is the engine's own.
UNAVAILABLE, FAILED = "unavailable", "failed"

_lock = threading.Lock()
_counts = {UNAVAILABLE: 0, FAILED: 0}


def note(error: EngineError) -> EngineError:
    """Count `error`, and give it back to be raised; that something is not there, say, is no failure."""
    status = error.status if isinstance(error, EngineRefused) else None
    if status is None or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        with _lock:
            _counts[UNAVAILABLE if status is None else FAILED] += 1
    return error


def counts() -> dict[str, int]:
    """How many calls have failed since the process began, by kind."""
    with _lock:
        return dict(_counts)
