"""Reads what grows on the server, and resumes after a broken connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import requests

from light_run.client.connection import Connection
from light_run.errors import LightRunError, Overloaded, ServerUnavailable

# An idle server sends a comment every 15 seconds. Without any data for longer, the connection is lost.
IDLE_TIMEOUT = 40.0
# Seconds between two requests if the server has no thread left to follow a run.
OVERLOADED_PAUSE = 1.0

_T = TypeVar("_T")


class ResumingReader(Generic[_T]):
    """Repeats a request until everything has been read.

    `request` is called with whether to follow. It yields what comes after the last item that it yielded before.
    `is_complete` returns True once nothing can follow any more; `name` is for the error message.
    """

    def __init__(
        self,
        connection: Connection,
        request: Callable[[bool], Iterator[_T]],
        is_complete: Callable[[], bool],
        name: str,
    ) -> None:
        self._connection = connection
        self._request = request
        self._is_complete = is_complete
        self._name = name

    def read(self, *, follow: bool) -> Iterator[_T]:
        """Yield everything so far; with `follow`, until the run ends.

        Raises `ServerUnavailable` if the connection breaks and the retries fail.
        """
        tries = self._connection.retries.begin()
        asked_twice = False
        while True:
            failed: LightRunError = ServerUnavailable(f"the server ended the {self._name} too early")
            try:
                for item in self._request(follow):
                    tries.reset()
                    asked_twice = False
                    yield item
                if self._is_complete() or not follow:
                    return
                if not asked_twice:
                    # The run has ended, or the server was stopped: only the next response says which.
                    asked_twice = True
                    continue
            except requests.RequestException as error:
                failed = self._connection.broken(error)
            except ServerUnavailable as error:
                failed = error
            except Overloaded as error:
                failed = error
                yield from self.read(follow=False)
                # The server responds, so retry without a limit. The pause below keeps this from being too often.
                tries.reset()
            if not tries.again(OVERLOADED_PAUSE if isinstance(failed, Overloaded) else 0.0):
                raise failed
