"""The query parameters of requests for logs and for output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Request

from light_run.api.responses import log_formats
from light_run.errors import Fault, InvalidSpec
from light_run.runs.ports import LinePort

_STREAMS = ("stdout", "stderr")
_BOTH = "both"
_TRUTHS = ("true", "false")
# Not beyond what a file of any size may have of lines.
_DIGITS = 15
# Of a value that is wrong, as much is quoted.
_SHOWN = 40
_LAST = "Last-Event-ID"
_SEQ = "a whole number from 0 on, the seq of the last line that is known"
_COUNT = "a whole number from 0 on"


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """A request for lines of `stream` (None: both) after the line `since`, at most `tail` of them."""

    form: str
    follow: bool
    since: int = -1
    tail: int | None = None
    stream: str | None = None
    resumed: bool = False

    def wants(self, line: LinePort) -> bool:
        """Return True if a line is requested, regardless of `tail`."""
        return line.seq > self.since and self.stream in (None, line.stream)


def query(request: Request) -> LogQuery:
    """Parse the query of `request`. Raises `InvalidSpec` with every fault."""
    given = _Given(request.args.get)
    form = given.choice("format", tuple(log_formats.TYPES))
    form = form or log_formats.of_type(request.accept_mimetypes.best_match(log_formats.MIMETYPES))
    follow, stream = given.choice("follow", _TRUTHS), given.choice("stream", _STREAMS)
    since, tail = given.number("since", _SEQ), given.number("tail", _COUNT)
    # EventSource omits the header if it has no id; other clients send it empty.
    last = _Given(lambda name: request.headers.get(name) or None)
    resumed = last.number(_LAST, _SEQ)
    if faults := [*given.faults, *last.faults]:
        raise InvalidSpec(faults)
    if resumed is not None:
        # A client that resumes repeats its first URL. It now wants all lines since then, not only the last ones.
        since, tail = resumed, None
    return LogQuery(
        form=form,
        # Events without an end would have their client come again and again.
        follow=form == log_formats.SSE if follow is None else follow == "true",
        since=-1 if since is None else since,
        tail=tail,
        stream=stream,
        resumed=resumed is not None,
    )


@dataclass(frozen=True, slots=True)
class OutputQuery:
    """A request for the bytes of `stream` (None: both) from `offset` on."""

    follow: bool
    stream: str | None
    offset: int


def output_query(request: Request) -> OutputQuery:
    """Parse the query of a request for raw output. Raises `InvalidSpec` with every fault."""
    given = _Given(request.args.get)
    follow, stream = given.choice("follow", _TRUTHS), given.choice("stream", (*_STREAMS, _BOTH))
    offset = given.number("offset", "a whole number of bytes from 0 on")
    if given.faults:
        raise InvalidSpec(given.faults)
    return OutputQuery(follow == "true", None if stream == _BOTH else stream, offset or 0)


class _Given:
    # Values by name, and their faults.
    def __init__(self, get: Callable[[str], str | None]) -> None:
        self._get = get
        self.faults: list[Fault] = []

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        given = self._get(name)
        if given is not None and given not in choices:
            self._refuse(name, given, f"one of {', '.join(choices)}")
        return given

    def number(self, name: str, meaning: str) -> int | None:
        given = self._get(name)
        if given is None:
            return None
        if not (given.isascii() and given.isdigit() and len(given) <= _DIGITS):
            self._refuse(name, given, meaning)
            return None
        return int(given)

    def _refuse(self, name: str, given: str, right: str) -> None:
        shown = given if len(given) <= _SHOWN else given[:_SHOWN] + "..."
        self.faults.append(Fault((name,), "invalid_value", f'{name} is "{shown}"; it must be {right}'))
