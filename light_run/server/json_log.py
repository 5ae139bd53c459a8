"""The server's log: one JSON object per line on stderr.

A line has ``time``, ``level``, ``logger`` and ``event`` (the message), all fields of ``extra``, and
``exception`` if there is one. Tokens, environments, inputs, contents of files and secrets must never be logged;
objects that hold them leave them out of their repr.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

# The attributes of every record; all others come from `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# The request's `trace_id` and `span_id`, if tracing is enabled.
TRACE: ContextVar[Mapping[str, str] | None] = ContextVar("light_run.trace", default=None)

_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record` as JSON; values that are not JSON are converted to strings."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(TRACE.get() or {})
        line.update((name, value) for name, value in vars(record).items() if name not in _USUAL)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class _StderrHandler(logging.Handler):
    # Looks up sys.stderr for each line, because it can be replaced.
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` as one line and flush it."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as in every handler: logging must not break the caller
            self.handleError(record)


def configure(*names: str, level: int = logging.INFO) -> None:
    """Make the loggers `names` (default: all of light-run) write JSON to stderr and nowhere else."""
    for name in names or ("light_run",):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        for handler in list(logger.handlers):
            if handler.__class__ in (logging.StreamHandler, _StderrHandler):
                logger.removeHandler(handler)
        logger.addHandler(_StderrHandler())


def configure_unless_configured() -> None:
    """Call `configure` unless the embedding program has already set up logging."""
    if not logging.getLogger("light_run").hasHandlers():
        configure()
