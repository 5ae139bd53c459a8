"""The log: JSON, one line an event."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from light_run.server import json_log


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that was configured, and is put back."""
    logger = logging.getLogger("light_run_test_of_logs")
    json_log.configure(logger.name)
    yield logger
    logger.handlers.clear()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What was written to stderr, each line read as JSON."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_time_level_event_and_what_was_given(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.warning("no %s", "room", extra={"run": "r1", "ms": 3})
    (line,) = lines(capsys)
    assert line.pop("time")
    assert line == {"level": "warning", "logger": logger.name, "event": "no room", "run": "r1", "ms": 3}


def test_newlines_and_exceptions_stay_in_one_line(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger.exception("two\nlines", extra={"odd": {1}})
    (line,) = lines(capsys)
    assert line["event"] == "two\nlines"
    assert "ValueError" in str(line["exception"])


def test_configuring_twice_writes_once(logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    json_log.configure(logger.name)
    logger.info("once")
    logger.debug("never")
    assert len(lines(capsys)) == 1
