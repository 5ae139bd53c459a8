"""The server's own log: one JSON object a line on stderr.

A line has ``time``, ``level``, ``logger`` and ``event`` (the message), whatever was given as ``extra``,
and ``exception`` where there is one. Nobody may log a token, an environment, an input, a file's content or
a secret; objects that hold such leave them out of their repr.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

# What every record has; anything beyond came in as `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Give `record` as JSON; values that JSON does not know are written as text."""
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _USUAL)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _encode(line)


class _StderrHandler(logging.Handler):
    # Looks stderr up each time: it may be exchanged meanwhile.
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record` as one line, at once."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as every handler does: logging must not break what it tells of
            self.handleError(record)


def configure(*names: str, level: int = logging.INFO) -> None:
    """Have the loggers `names` (default: all of light-run's) write JSON to stderr, and nowhere else."""
    for name in names or ("light_run",):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        for handler in list(logger.handlers):
            if handler.__class__ in (logging.StreamHandler, _StderrHandler):
                logger.removeHandler(handler)
        logger.addHandler(_StderrHandler())


def configure_unless_configured() -> None:
    """Do so where the program around us has set up no logging of its own."""
    if not logging.getLogger("light_run").hasHandlers():
        configure()
