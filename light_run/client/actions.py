"""The methods of `Client` that change a run: the actions, and its deletion."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from light_run.client import model
from light_run.client.connection import Connection, run_path
from light_run.errors import LightRunError, RunActive, RunNotActive, RunNotFound

# Seconds that a request waits for a command to read what was written to it; no run lives longer.
STDIN_PATIENCE = 2 * 3600.0


class ActionMethods:
    """Cancel, stop, pause, resume and delete a run."""

    _connection: Connection

    def cancel(self, run_id: str) -> None:
        """Cancel a run. Raises `RunNotActive` if it has ended or does not exist."""
        self._act(run_id, "cancel", ends=True)

    def stop(self, run_id: str, *, signal: str = "SIGTERM", grace: float = 10.0) -> None:
        """Send a run `signal`, and SIGKILL after `grace` seconds; returns once the run has ended.

        Raises `RunNotActive` if it has ended before, or does not exist, and `InvalidSpec` for an unknown signal.
        """
        body = {"signal": signal, "grace": round(grace * 1000)}
        self._act(run_id, "stop", body, ends=True, seconds=grace)

    def write_stdin(self, run_id: str, data: bytes = b"", *, close: bool = False) -> None:
        """Append `data` to the standard input of an interactive run, and end it with `close`.

        Returns once the engine has the data, which may take as long as the run waits for its start. Raises
        `StdinClosed` if the run is not interactive or its input has ended, `RunNotActive` if it has ended or does not
        exist. The request is not repeated: after a `ServerUnavailable`, part of the data may have been delivered.
        """
        with self._connection.send(
            "POST",
            f"{run_path(run_id)}/stdin",
            params={"close": "true"} if close else None,
            body=lambda: data,
            timeout=STDIN_PATIENCE,
            retry=False,
        ):
            pass

    def pause(self, run_id: str) -> None:
        """Freeze a run; its timeout does not count until `resume`. Raises `RunNotActive`, `RunNotStarted`."""
        self._act(run_id, "pause")

    def resume(self, run_id: str) -> None:
        """Resume a paused run. Raises `RunNotActive`, `RunNotStarted`."""
        self._act(run_id, "resume")

    def delete(self, run_id: str) -> None:
        """Delete a run and its artifacts. Raises `RunActive` if it has not ended or does not exist."""
        self._send_unrepeatable(
            "DELETE", run_path(run_id), RunActive, lambda: self._has_ended(run_id) is None
        )

    def _act(
        self,
        run_id: str,
        action: str,
        body: Mapping[str, object] | None = None,
        *,
        ends: bool = False,
        seconds: float = 0.0,
    ) -> None:
        # `ends` says that the action ends the run, `seconds` how much longer than usual the server may take for it.
        self._send_unrepeatable(
            "POST",
            f"{run_path(run_id)}/{action}",
            RunNotActive,
            lambda: ends and self._has_ended(run_id) is True,
            content=None if body is None else json.dumps(body).encode(),
            longer=seconds,
        )

    def _has_ended(self, run_id: str) -> bool | None:
        # None if the run does not exist.
        try:
            return model.run(self._connection.json("GET", run_path(run_id))).ended
        except RunNotFound:
            return None

    def _send_unrepeatable(
        self,
        method: str,
        path: str,
        gone: type[LightRunError],
        done: Callable[[], bool],
        *,
        content: bytes | None = None,
        longer: float = 0.0,
    ) -> None:
        # A retry fails if an earlier attempt succeeded but its response was lost. `done` detects that.
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
