"""Log formats: newline-delimited JSON, server-sent events and plain text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from light_run.runs.model import RunRecord
from light_run.runs.ports import LinePort
from light_run.runs.presentation import run_state, timestamp

NDJSON, TEXT, SSE = "ndjson", "text", "sse"
# Content types by format; the first one is the default.
TYPES = {
    NDJSON: "application/x-ndjson",
    TEXT: "text/plain; charset=utf-8",
    SSE: "text/event-stream; charset=utf-8",
}
MIMETYPES = [each.split(";", 1)[0] for each in TYPES.values()]
# A line with more characters than this is sent in slices.
LONG = 1 << 16
COMMENT = b": nothing yet\n\n"

# Beyond ASCII everything is escaped: there are clients that end lines at U+2028 and its like.
_string = json.JSONEncoder().encode


def of_type(mimetype: str | None) -> str:
    """Return the format with the content type `mimetype`; NDJSON for any other."""
    return next((form for form, kind in TYPES.items() if kind.split(";", 1)[0] == mimetype), NDJSON)


def render(lines: Sequence[LinePort], form: str, stream: str | None) -> bytes:
    """Those of `lines` that are of `stream` (None is both)."""
    wanted = (line for line in lines if stream is None or line.stream == stream)
    if form == TEXT:
        return "".join(line.text + "\n" for line in wanted).encode()
    if form == SSE:
        return "".join(f"id: {seq}\ndata: {text}\n\n" for seq, text in _objects(wanted)).encode()
    return "".join(f"{text}\n" for _, text in _objects(wanted)).encode()


def end_event(run: RunRecord, count: int) -> bytes:
    """The last event, with the state `run` ended in; its id is one that no line has, as there are `count`."""
    return f"id: {count}\nevent: end\ndata: {json.dumps(run_state(run))}\n\n".encode()


def slices(line: LinePort, form: str) -> Iterator[bytes]:
    """`line` alone, a bounded piece at a time: it may be as long as all that is kept of a run."""
    if form == TEXT:
        begin, end = "", "\n"
    else:
        begin, end = f'{_head(line, _time(line))}"', '"}\n'
    if form == SSE:
        begin, end = f"id: {line.seq}\ndata: {begin}", f"{end}\n"
    yield begin.encode()
    for start in range(0, len(line.text), LONG):
        part = line.text[start : start + LONG]
        yield (part if form == TEXT else _string(part)[1:-1]).encode()
    yield end.encode()


def _objects(lines: Iterator[LinePort]) -> Iterator[tuple[int, str]]:
    milliseconds, time = -1, ""
    for line in lines:
        # Lines that arrived together have the same time.
        if line.time != milliseconds:
            milliseconds, time = line.time, _time(line)
        yield line.seq, f"{_head(line, time)}{_string(line.text)}}}"


def _head(line: LinePort, time: str) -> str:
    return f'{{"seq":{line.seq},"time":"{time}","stream":"{line.stream}","text":'


def _time(line: LinePort) -> str:
    return timestamp(datetime.fromtimestamp(line.time / 1000, timezone.utc))
