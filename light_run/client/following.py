"""A run's log, line by line; where the connection breaks, from the line on where it broke."""

from __future__ import annotations

import json
from collections.abc import Iterator

import requests

from light_run.client import model
from light_run.client.connection import Connection
from light_run.client.model import LogLine, Stream
from light_run.errors import ClientError, LightRunError, Overloaded, ServerUnavailable

# A server that has nothing to send says so every 15 seconds: silence for longer is a connection that is gone.
SILENCE = 40.0
# Seconds between two looks at a log that there is no place to follow.
GLANCE = 1.0

_BLOCK = 1 << 16
_END = "end"


class Log:
    """The log of one run behind the line `since`: `stream` alone, of what is there the `tail` last lines."""

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
        """The lines so far; with `follow`, every line until the run has ended.

        Raises `ServerUnavailable` where the connection is broken and does not come back.
        """
        if follow and self._tail is not None:
            yield from self._last(self._tail)
        tries = self._connection.retries.begin()
        while True:
            failed: LightRunError = ServerUnavailable("the server keeps ending its answer too early")
            try:
                for line in self._answer(follow=follow):
                    # What comes after a break is what follows, not what is last by then.
                    self._since, self._tail = line.seq, None
                    tries.reset()
                    yield line
                if self._ended or not follow:
                    return
            except requests.RequestException as error:
                failed = self._connection.broken(error)
            except ServerUnavailable as error:
                failed = error
            except Overloaded as error:
                failed = error
                yield from self.lines(follow=False)
                # Not to look too often is what the pause is for; a server that answers is not given up.
                tries.reset()
            if not tries.again(GLANCE if isinstance(failed, Overloaded) else 0.0):
                raise failed

    def _last(self, count: int) -> Iterator[LogLine]:
        # The last lines of those that are there now, and where what follows begins, whatever breaks then.
        self._tail = max(1, count)
        found = list(self.lines(follow=False))
        self._tail, self._ended = None, False
        yield from found[len(found) - min(count, len(found)) :]

    def _answer(self, *, follow: bool) -> Iterator[LogLine]:
        params = {"follow": "true" if follow else "false", "format": "sse"}
        for name, given in (("since", self._since), ("tail", self._tail), ("stream", self._stream)):
            if given is not None:
                params[name] = str(given)
        with self._connection.send(
            "GET", self._path, params=params, stream=True, timeout=SILENCE, retry=not follow
        ) as response:
            for event, text in events(response):
                if event == _END:
                    self._ended = True
                    return
                yield model.log_line(_json(text))


def events(response: requests.Response) -> Iterator[tuple[str, str]]:
    """The server-sent events of `response`, each as its name and its data; comments are left out."""
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
        raise ClientError(f"the server's answer is no line of a log: {error}") from None
