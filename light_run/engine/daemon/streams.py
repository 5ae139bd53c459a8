"""Calls that stream: a container's input and output, its files as archives, and its exit by the event stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO

from light_run.engine.daemon.containers import ContainerCalls
from light_run.engine.daemon.events import ACTIONS, ExitEvents, PendingExit
from light_run.engine.daemon.session import CALL_TIMEOUT
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.daemon.transport import open_stream, translated_errors

_AUDIT_TIMEOUT = 5.0
# Every container of ours has it, whichever server it belongs to.
CONTAINER_LABEL = "light-run.kind"


class StreamCalls(ContainerCalls):
    """The engine's calls that stream."""

    def __init__(self, timeout: int = CALL_TIMEOUT) -> None:
        super().__init__(timeout)
        self._exits = ExitEvents(self._events, self._exited, self._exit_code)

    def close(self) -> None:
        """Close the event stream and the idle connections of every thread; the engine stays usable."""
        self._exits.close()
        super().close()

    def attach(self, container: str) -> EngineStream:
        """The container's stdin, stdout and stderr, from now on."""
        if not self._over_tls():
            return self._attach(container, ("stdin", "stdout", "stderr"))
        # Python's TLS cannot end one direction and go on in the other: the input goes by a connection of its own.
        stdin = self._attach(container, ("stdin",))
        try:
            return self._attach(container, ("stdout", "stderr"), stdin)
        except BaseException:
            stdin.close()
            raise

    def _over_tls(self) -> bool:
        with translated_errors():
            return str(self.api.base_url).startswith("https:")

    def _attach(
        self, container: str, streams: Sequence[str], stdin: EngineStream | None = None
    ) -> EngineStream:
        with translated_errors():
            stream = self._open(
                "POST",
                "/containers/{0}/attach",
                container,
                dict.fromkeys((*streams, "stream"), 1),
                {"Connection": "Upgrade", "Upgrade": "tcp"},
            )
        if stdin is not None:
            stream.use_for_input(stdin)
        return stream

    def logs(self, container: str) -> EngineStream:
        """Everything the engine kept of the container's output, then what follows, until it ends."""
        with translated_errors():
            return self._open(
                "GET", "/containers/{0}/logs", container, {"stdout": 1, "stderr": 1, "follow": 1}
            )

    def whole_log(self, container: str) -> AbstractContextManager[Iterator[bytes]]:
        """What the engine kept of an ended container's output, in chunks of the multiplexed stream."""
        return self._chunks("/containers/{0}/logs", container, {"stdout": 1, "stderr": 1})

    def pending_exit(self, container: str, *, started: bool = False) -> PendingExit:
        """The exit of a container, by the event stream; one that was `started` before may have exited already."""
        pending = self._exits.watch(container, started=started)
        if started:
            try:
                if not self.inspect(container)["State"].get("Running"):
                    pending.resolve()
            except BaseException:
                pending.close()
                raise
        return pending

    def _events(self, since: int) -> EngineStream:
        filters = json.dumps({"type": ["container"], "event": list(ACTIONS)})
        with translated_errors():
            api = self.api
            return open_stream(api, "GET", api._url("/events"), {"since": since, "filters": filters})

    def _exited(self) -> frozenset[str]:
        filters = json.dumps({"label": [CONTAINER_LABEL], "status": ["exited", "dead"]})
        with translated_errors():
            api = self.api
            # Not as long as any call: events are not read meanwhile.
            url, params = api._url("/containers/json"), {"all": 1, "filters": filters}
            found = api._result(api._get(url, params=params, timeout=_AUDIT_TIMEOUT), True)
            return frozenset(str(each["Id"]) for each in found)

    def _exit_code(self, container: str) -> int:
        return int(self.inspect(container)["State"]["ExitCode"])

    def put_archive(self, container: str, path: str, tar: IO[bytes]) -> None:
        """Unpack an uncompressed tar at `path` of a container that was not started yet."""
        with translated_errors():
            self.api.put_archive(container, path, tar)

    def get_archive(self, container: str, path: str) -> AbstractContextManager[Iterator[bytes]]:
        """A tar of `path` in chunks. `EngineRefused` with status 404 where it does not exist."""
        return self._chunks("/containers/{0}/archive", container, {"path": path})
