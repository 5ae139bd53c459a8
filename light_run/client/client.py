"""`Client`: the Python client of a light-run server."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from light_run.client import model, responses
from light_run.client.actions import ActionMethods
from light_run.client.artifacts import ArtifactMethods
from light_run.client.connection import Connection, run_path
from light_run.client.download import ignore_progress
from light_run.client.following import Log
from light_run.client.model import LogLine, OutputPiece, Run, Status, Stream
from light_run.client.networks import NetworkMethods
from light_run.client.output import OutputFollower
from light_run.client.requests import Options, request
from light_run.client.retries import Retries
from light_run.client.server import ServerMethods
from light_run.client.uploads import MultipartMessage, uploads
from light_run.errors import (
    InvalidSpec,
    LightRunError,
    StillRunning,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

URL = "http://127.0.0.1:3000"
URL_VARIABLE = "LIGHT_RUN_URL"
TOKEN_VARIABLE = "LIGHT_RUN_TOKEN"  # noqa: S105

# Seconds that one request waits for the end of a run. Shorter than the usual timeouts of proxies.
LONG_POLL = 25.0
# Seconds between two requests to a server that has no thread for a long poll and responds at once.
MIN_POLL_PAUSE = 0.5

# The maximum number of runs in one response.
PAGE = 1000


class Client(ActionMethods, ArtifactMethods, NetworkMethods, ServerMethods):
    """A client of a light-run server.

    `url` and `token` default to LIGHT_RUN_URL (``http://127.0.0.1:3000`` if that is not set) and
    LIGHT_RUN_TOKEN. The server must start to respond within `timeout` seconds. If the server is unavailable or
    overloaded, the client retries for `retry_for` seconds; a retry never starts a second run. Methods raise
    `RunNotFound` if the run does not exist, `ServerUnavailable` if the server does not respond, `Unauthorized`
    if the token is missing or wrong, and `Refused` for other error responses. All are subclasses of
    `LightRunError`.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(
            url or os.environ.get(URL_VARIABLE) or URL,
            token or os.environ.get(TOKEN_VARIABLE),
            timeout=timeout,
            retries=Retries(within=retry_for, sleep=sleep),
        )

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server. Runs continue."""
        self._connection.close()

    def submit(
        self, image: str, command: Sequence[str] | str | None = None, **options: Unpack[Options]
    ) -> Run:
        """Submit a run and return it, with its `id`, as soon as the server has accepted it.

        `command` is a sequence of words, each passed on unchanged, or a line for the shell; None runs the
        image's own command. `Options` describes the other arguments. Raises `InvalidSpec` if the request is not
        valid, `Overloaded` if the server's queue is full.
        """
        progress = options.get("progress", ignore_progress)
        message = MultipartMessage(request(image, command, options), uploads(options.get("files")))
        # All retries use one key, so the server starts one run even if it receives several of them.
        headers = {"Content-Type": message.content_type, "Idempotency-Key": str(uuid.uuid4())}
        return model.run(
            self._connection.json("POST", "/run", headers=headers, body=lambda: message.sent(progress))
        )

    def run(
        self,
        image: str,
        command: Sequence[str] | str | None = None,
        *,
        on_line: Callable[[LogLine], object] | None = None,
        **options: Unpack[Options],
    ) -> Run:
        """Submit a run, wait until it ends, and return it. `options` are the same as for `submit`.

        `on_line` is called with each line of output as it arrives. A failed program does not raise an exception:
        check `succeeded`, `exit_code` and `reason`. A KeyboardInterrupt cancels the run.
        """
        run_id = self.submit(image, command, **options).id
        try:
            if on_line is not None:
                for line in self.logs(run_id, follow=True):
                    on_line(line)
            return self.wait(run_id)
        except KeyboardInterrupt:
            with suppress(LightRunError):
                self.cancel(run_id)
            raise

    def get(self, run_id: str, *, output: Literal["lines", "split"] | None = None) -> Run:
        """Return the current state of a run.

        With `output` ``split``, it has `stdout` and `stderr` in place of `logs`; None is as the run was submitted.
        """
        params = {} if output is None else {"output": output}
        return model.run(self._connection.json("GET", run_path(run_id), params=params))

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """Wait until a run ends and return it. Raises `StillRunning` if it does not end in `timeout` seconds."""
        retries = self._connection.retries
        deadline = None if timeout is None else retries.clock() + timeout
        while True:
            asked = retries.clock()
            seconds = LONG_POLL if deadline is None else max(0.0, min(LONG_POLL, deadline - asked))
            found = model.run(
                self._connection.json(
                    "GET", run_path(run_id), params={"wait": f"{seconds:.3f}"}, timeout=seconds + LONG_POLL
                )
            )
            if found.ended:
                return found
            now = retries.clock()
            if deadline is not None and now >= deadline:
                raise StillRunning(f"the run {run_id} did not end within {timeout:g} s")
            if now - asked < min(MIN_POLL_PAUSE, seconds):
                retries.sleep(MIN_POLL_PAUSE)

    def runs(
        self,
        *,
        status: Status | None = None,
        limit: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[Run]:
        """Yield runs, newest first and without their logs: at most `limit`, with `status` and all of `labels`."""
        params: dict[str, str | list[str]] = {} if status is None else {"status": status}
        if labels:
            params["label"] = [f"{key}={value}" for key, value in labels.items()]
        left = float("inf") if limit is None else limit
        page, more = self._page(params, left)
        while page:
            left -= len(page)
            following: list[Run] = []
            if more:
                # Fetched before this page is yielded: the caller may delete the run that the next page follows.
                following, more = self._next_page(page, params, left)
            yield from page
            page = following

    def _next_page(
        self, page: Sequence[Run], params: Mapping[str, str | list[str]], left: float
    ) -> tuple[list[Run], bool]:
        # The runs after the last run of the page that the server still has.
        for run in reversed(page[1:]):
            with suppress(InvalidSpec):
                return self._page({**params, "before": run.id}, left)
        return self._page({**params, "before": page[0].id}, left)

    def _page(self, params: Mapping[str, str | list[str]], left: float) -> tuple[list[Run], bool]:
        # Returns at most `left` runs, and whether there are more.
        if left <= 0:
            return [], False
        limited = params if left == float("inf") else {**params, "limit": str(int(min(left, PAGE)))}
        with self._connection.send("GET", "/runs", params=limited) as response:
            page = [model.run(state) for state in model.array(responses.value(response))]
        return page, "next" in response.links

    def logs(
        self,
        run_id: str,
        *,
        follow: bool = False,
        since: int | None = None,
        stream: Stream | None = None,
        tail: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield the lines of output so far, or with `follow` every line until the run ends.

        With `since`, the first line is the one after that `seq`. `stream` selects stdout or stderr. `tail` limits
        how many of the existing lines are returned. A broken connection is resumed where it broke.
        """
        log = Log(self._connection, f"{run_path(run_id)}/logs", since=since, stream=stream, tail=tail)
        return log.lines(follow=follow)

    def output(self, run_id: str, *, stream: Stream | None = None, follow: bool = False) -> Iterator[bytes]:
        """Yield the exact bytes of the output so far, or with `follow` all of them until the run ends.

        `stream` selects stdout or stderr; None is both in the order of arrival. Bytes come as they are written, also
        without a newline: a prompt, or a progress bar that is drawn with carriage returns. A broken connection is
        resumed where it broke.
        """
        return (piece.data for piece in self.attach(run_id, stream=stream, follow=follow))

    def attach(
        self, run_id: str, *, stream: Stream | None = None, follow: bool = True
    ) -> Iterator[OutputPiece]:
        """Yield the same bytes as `output`, each piece with the stream that it was written to."""
        return OutputFollower(self._connection, f"{run_path(run_id)}/output", stream=stream).pieces(
            follow=follow
        )
