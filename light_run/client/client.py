"""`Client`: a light-run server, as Python has it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from light_run.client import download, model, responses
from light_run.client.connection import Connection
from light_run.client.download import Progress
from light_run.client.following import Log
from light_run.client.model import Artifact, Info, LogLine, Run, Status, Stream
from light_run.client.requests import Options, request
from light_run.client.retries import Retries
from light_run.client.uploads import MultipartMessage, uploads
from light_run.errors import (
    ArtifactError,
    ArtifactNotFound,
    DownloadFailed,
    InvalidSpec,
    LightRunError,
    RunActive,
    RunNotActive,
    RunNotFound,
    StillRunning,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

URL = "http://127.0.0.1:3000"
URL_VARIABLE = "LIGHT_RUN_URL"
TOKEN_VARIABLE = "LIGHT_RUN_TOKEN"  # noqa: S105

# How long one request waits for the end of a run: below what proxies take for a server that hangs.
WAIT = 25.0
# A server without room for waiting answers at once; it is not asked again at once.
GLANCE = 0.5

# The most runs that one answer has.
PAGE = 1000


def _silent(count: int) -> None:
    """Be told of progress, and say nothing of it."""


class Client:
    """A light-run server.

    `url` and `token` are by default those of LIGHT_RUN_URL (``http://127.0.0.1:3000``) and LIGHT_RUN_TOKEN.
    An answer has to begin within `timeout` seconds. A request that finds the server away or full is sent
    again for `retry_for` seconds; that never makes a second run of one. Methods raise `RunNotFound` where
    there is no such run, `ServerUnavailable` where nothing answers, `Unauthorized` where the token is not
    the right one, and `Refused` for what else a server may say; all of them are `LightRunError`.
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
        """Where the server is."""
        return self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server; runs go on."""
        self._connection.close()

    def submit(
        self, image: str, command: Sequence[str] | str | None = None, **options: Unpack[Options]
    ) -> Run:
        """Ask for a run and return as soon as it is accepted, with its `id`.

        `command` is words, each passed on as it is, or a line for the shell; without it the image's own is
        used. See `Options` for what else there is. Raises `InvalidSpec` for what cannot be run, `Overloaded`
        where there is no room for it.
        """
        progress = options.get("progress", _silent)
        message = MultipartMessage(request(image, command, options), uploads(options.get("files")))
        # One key for all the times that this may be sent: however many arrive, one run comes of it.
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
        """Run to the end and return what became of it; `options` are those of `submit`.

        `on_line` is called with each line of output as it comes. What a program does is no exception: look
        at `succeeded`, `exit_code` and `reason`. A KeyboardInterrupt cancels the run.
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

    def get(self, run_id: str) -> Run:
        """The run as it is now."""
        return model.run(self._connection.json("GET", _path(run_id)))

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has ended. Raises `StillRunning` where that takes more than `timeout` seconds."""
        retries = self._connection.retries
        deadline = None if timeout is None else retries.clock() + timeout
        while True:
            asked = retries.clock()
            seconds = WAIT if deadline is None else max(0.0, min(WAIT, deadline - asked))
            found = model.run(
                self._connection.json(
                    "GET", _path(run_id), params={"wait": f"{seconds:.3f}"}, timeout=seconds + WAIT
                )
            )
            if found.ended:
                return found
            now = retries.clock()
            if deadline is not None and now >= deadline:
                raise StillRunning(f"the run {run_id} has not ended within {timeout:g} s")
            if now - asked < min(GLANCE, seconds):
                retries.sleep(GLANCE)

    def runs(self, *, status: Status | None = None, limit: int | None = None) -> Iterator[Run]:
        """Runs, the newest first and without their logs; those of `status` alone, `limit` at most."""
        params: dict[str, str] = {} if status is None else {"status": status}
        left = float("inf") if limit is None else limit
        page, more = self._page(params, left)
        while page:
            left -= len(page)
            following: list[Run] = []
            if more:
                # Before the page is given out: whoever gets it may delete the run that the next one follows.
                following, more = self._behind(page, params, left)
            yield from page
            page = following

    def _behind(self, page: Sequence[Run], params: Mapping[str, str], left: float) -> tuple[list[Run], bool]:
        # The runs that follow the page's last one; or the last one that the server has not forgotten since.
        for run in reversed(page[1:]):
            with suppress(InvalidSpec):
                return self._page({**params, "before": run.id}, left)
        return self._page({**params, "before": page[0].id}, left)

    def _page(self, params: Mapping[str, str], left: float) -> tuple[list[Run], bool]:
        # At most `left` runs, and whether there are more.
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
        """The lines of output so far, or with `follow` all of them as they come, until the run has ended.

        `since` is the `seq` of a line that is known already; `stream` leaves the other one out; `tail` is
        how many lines at most of those that are there. A broken connection is taken up where it broke.
        """
        log = Log(self._connection, f"{_path(run_id)}/logs", since=since, stream=stream, tail=tail)
        return log.lines(follow=follow)

    def cancel(self, run_id: str) -> None:
        """Cancel a run. Raises `RunNotActive` where it has ended, or is not there."""
        self._once("POST", f"{_path(run_id)}/cancel", RunNotActive, lambda: self._has_ended(run_id) is True)

    def stop(self, run_id: str, *, signal: str = "SIGTERM", grace: float = 10.0) -> None:
        """Send a run `signal`, and SIGKILL after `grace` seconds; returns once the run has ended.

        Raises `RunNotActive` if it has ended before, or does not exist, and `InvalidSpec` for an unknown signal.
        """
        body = {"signal": signal, "grace": round(grace * 1000)}
        self._once(
            "POST",
            f"{_path(run_id)}/stop",
            RunNotActive,
            lambda: self._has_ended(run_id) is True,
            content=json.dumps(body).encode(),
            longer=grace,
        )

    def pause(self, run_id: str) -> None:
        """Freeze a run; its timeout does not count until `resume`. Raises `RunNotActive`, `RunNotStarted`."""
        self._once("POST", f"{_path(run_id)}/pause", RunNotActive, lambda: False)

    def resume(self, run_id: str) -> None:
        """Let a paused run go on. Raises `RunNotActive`, `RunNotStarted`."""
        self._once("POST", f"{_path(run_id)}/resume", RunNotActive, lambda: False)

    def delete(self, run_id: str) -> None:
        """Forget a run and its artifacts. Raises `RunActive` where it has not ended, or is not there."""
        self._once("DELETE", _path(run_id), RunActive, lambda: self._has_ended(run_id) is None)

    def artifacts(self, run_id: str) -> tuple[Artifact, ...]:
        """The files and directories that a run has left, sorted by path."""
        with self._connection.send("GET", f"{_path(run_id)}/artifacts") as response:
            return tuple(model.artifact(entry) for entry in model.array(responses.value(response)))

    def download(self, run_id: str, path: str, to: str | Path = ".", *, progress: Progress = _silent) -> Path:
        """Fetch the artifact `path`, a file, and return where it is now.

        `to` is the file to write, or a directory that is there. `progress` is called with the size of each
        piece in bytes. A file is there whole or not at all. Raises `ArtifactNotFound`, `InvalidPath`,
        `DownloadFailed`, and OSError.
        """
        target = Path(to)
        if target.is_dir():
            target = download.local_path(target, path.rpartition("/")[2])
        url = f"{_path(run_id)}/artifacts/{download.url_path(path)}"
        download.fetch(self._connection, url, target, progress)
        return target

    def download_all(
        self, run_id: str, folder: str | Path, *, below: str = "", progress: Progress = _silent
    ) -> tuple[Path, ...]:
        """Fetch everything that the run left, or what lies in its directory `below`, into `folder`.

        Returns the files that were written. Nothing is written outside of `folder`. An artifact that cannot be
        had, or has no place there by its name, keeps nothing else from being fetched: `DownloadFailed` names
        it at the end. Raises what `download` raises.
        """
        folder = Path(folder)
        prefix = f"{below.strip('/')}/" if below.strip("/") else ""
        entries = [entry for entry in self.artifacts(run_id) if entry.path.startswith(prefix)]
        if prefix and not entries and not self._is_directory(run_id, prefix[:-1]):
            raise ArtifactNotFound(f"the run left no directory {below}")
        folder.mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        failed: list[str] = []
        for entry in entries:
            try:
                target = download.local_path(folder, entry.path.removeprefix(prefix))
                (target if entry.type == "directory" else target.parent).mkdir(parents=True, exist_ok=True)
                if entry.type == "file":
                    written.append(self.download(run_id, entry.path, target, progress=progress))
            except ArtifactError as error:
                failed.append(f"{entry.path!r} ({error})")
        if failed:
            raise DownloadFailed(
                f"{len(failed)} of {len(entries)} artifacts were not fetched: {', '.join(failed)}"
            )
        return tuple(written)

    def info(self) -> Info:
        """What the server is like: its version, its engine, the room it has, what this token may do."""
        return model.info(self._connection.json("GET", "/info"))

    def _is_directory(self, run_id: str, path: str) -> bool:
        return any(entry.path == path and entry.type == "directory" for entry in self.artifacts(run_id))

    def _has_ended(self, run_id: str) -> bool | None:
        # None where it is not there.
        try:
            return self.get(run_id).ended
        except RunNotFound:
            return None

    def _once(
        self,
        method: str,
        path: str,
        gone: type[LightRunError],
        done: Callable[[], bool],
        *,
        content: bytes | None = None,
        longer: float = 0.0,
    ) -> None:
        # Sent again after a break, it may find that the first one has done it: `done` knows.
        sent = 0

        def body() -> bytes | None:
            nonlocal sent
            sent += 1
            return content

        timeout = self._connection.timeout + longer
        try:
            with self._connection.send(method, path, body=body, timeout=timeout):
                pass
        except gone:
            if sent < 2 or not done():
                raise


def _path(run_id: str) -> str:
    if run_id in {"", ".", ".."}:
        # Those would make another URL.
        raise RunNotFound(f"no run is called {run_id!r}")
    return f"/runs/{quote(run_id, safe='')}"
