"""Reads or follows the log of a run, and resumes after a broken connection."""

from __future__ import annotations

import json
from collections.abc import Iterator

import requests

from light_run.client import model, resuming
from light_run.client.connection import Connection
from light_run.client.model import LogLine, Stream
from light_run.client.resuming import ResumingReader
from light_run.errors import ClientError

_BLOCK = 1 << 16
_END = "end"


class Log:
    """The log of one run after the line `since`: only `stream`, and at most the last `tail` existing lines."""

    def __init__(
        self,
        connection: Connection,
        path: str,
        *,
        since: int | None = None,
        stream: Stream | None = None,
        tail: int | None = None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._since = since
        self._stream = stream
        self._tail = tail
        self._ended = False

    def lines(self, *, follow: bool) -> Iterator[LogLine]:
        """Yield the lines so far; with `follow`, every line until the run ends.

        Raises `ServerUnavailable` if the connection breaks and the retries fail.
        """
        if follow and self._tail is not None:
            yield from self._tail_lines(self._tail)
        reader = ResumingReader(self._connection, self._request, lambda: self._ended, "log stream")
        yield from reader.read(follow=follow)

    def _tail_lines(self, count: int) -> Iterator[LogLine]:
        # Yields the last lines that exist now, and remembers where to continue after them.
        self._tail = max(1, count)
        found = list(self.lines(follow=False))
        self._tail, self._ended = None, False
        yield from found[len(found) - min(count, len(found)) :]

    def _request(self, follow: bool) -> Iterator[LogLine]:
        params = {"follow": "true" if follow else "false", "format": "sse"}
        for name, given in (("since", self._since), ("tail", self._tail), ("stream", self._stream)):
            if given is not None:
                params[name] = str(given)
        with self._connection.send(
            "GET", self._path, params=params, stream=True, timeout=resuming.IDLE_TIMEOUT, retry=not follow
        ) as response:
            for event, text in events(response):
                if event == _END:
                    self._ended = True
                    return
                line = model.log_line(_json(text))
                # After a break, continue with the next line. A tail would skip lines.
                self._since, self._tail = line.seq, None
                yield line


def events(response: requests.Response) -> Iterator[tuple[str, str]]:
    """Yield the name and the data of each server-sent event of `response`, without comments."""
    event = ""
    data: list[str] = []
    for line in _lines(response):
        if not line:
            if data:
                yield event, "\n".join(data)
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)


def _lines(response: requests.Response) -> Iterator[str]:
    rest = b""
    for block in response.iter_content(_BLOCK):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ClientError(f"the server's response is not a log line: {error}") from None
