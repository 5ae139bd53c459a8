"""Calls for containers: create, start, signal, inspect, remove."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from light_run.engine.daemon.features import UNNAMED_RUNTIME, adapted
from light_run.engine.daemon.session import Session
from light_run.engine.daemon.transport import translated_errors
from light_run.engine.daemon.usage import written_bytes
from light_run.errors import EngineRefused

# The engine's words for a container whose size its storage cannot limit.
_NO_QUOTA = "storage-opt"
# A removal that is under way is over in so many seconds, or hangs.
_REMOVAL_SECONDS = 5.0


class ContainerCalls(Session):
    """The engine's calls for containers."""

    def create(self, config: Mapping[str, Any]) -> str:
        """Create a container from a configuration in Docker's form; its id.

        A runtime that the configuration names is read back: Podman accepts one that it does not have.
        """
        config = adapted(config, self.features())
        try:
            with translated_errors():
                container = str(self.api.create_container_from_config(config)["Id"])
        except EngineRefused as error:
            if "StorageOpt" not in config["HostConfig"] or _NO_QUOTA not in str(error).lower():
                raise
            # The file system was mounted without the option; nothing but an attempt tells.
            self.without_quota()
            return self.create(config)
        if wanted := config["HostConfig"].get("Runtime"):
            self._require_runtime(container, wanted)
        return container

    def _require_runtime(self, container: str, wanted: str) -> None:
        try:
            used = self._runtime_of(container)
            if used != wanted:
                raise EngineRefused(
                    HTTPStatus.BAD_REQUEST,
                    f"the engine did not take the runtime {wanted!r}: it created a container with {used!r}",
                )
        except BaseException:
            self.remove(container)
            raise

    def _runtime_of(self, container: str) -> str | None:
        used: str | None = self.inspect(container)["HostConfig"].get("Runtime")
        if used != UNNAMED_RUNTIME:
            return used
        # Podman tells the name by its own API alone.
        return str(self._libpod(f"/containers/{container}/json").get("OCIRuntime"))

    def start(self, container: str) -> None:
        """Start a created container."""
        with translated_errors():
            self.api.start(container)

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a container `signal`; one that does not run, or is gone, is fine. Takes 10 seconds at most."""
        try:
            with translated_errors(), self.urgent() as client:
                client.kill(container, signal)
        except EngineRefused as error:
            if not (error.not_found or error.conflict):
                raise

    def pause(self, container: str) -> None:
        """Freeze the processes of a container; one that is paused already is fine."""
        self._set_paused(container, self.api.pause, wanted=True)

    def resume(self, container: str) -> None:
        """Let the processes of a paused container go on; one that is not paused is fine."""
        self._set_paused(container, self.api.unpause, wanted=False)

    def _set_paused(self, container: str, call: Callable[[str], object], *, wanted: bool) -> None:
        try:
            with translated_errors():
                call(container)
        except EngineRefused:
            # It says so with various status codes, of which one is that of a fault of its own.
            if self.inspect(container)["State"].get("Paused") is not wanted:
                raise

    def execute(self, container: str, command: Sequence[str]) -> None:
        """Start another process in a running container and do not wait for it. Takes 10 seconds a call at most."""
        with translated_errors(), self.urgent() as client:
            created = client.exec_create(container, list(command), stdout=False, stderr=False)
            client.exec_start(created["Id"], detach=True)

    def exit_causes(self, container: str, since: float, until: float) -> frozenset[str]:
        """Return which of the events ``start``, ``kill``, ``oom`` and ``die`` the engine has of the container.

        ``kill``: the engine, or another client of it, sent a signal. Times are seconds since the epoch. An engine
        that was restarted has no events from before, and keeps no more than its last few hundred.
        """
        filters = {"container": container, "event": ["start", "kill", "oom", "die", "died"]}
        with translated_errors():
            events = self.api.events(since=f"{since:f}", until=f"{until:f}", filters=filters, decode=True)
            return frozenset("die" if event["Action"] == "died" else str(event["Action"]) for event in events)

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; one that is gone is fine."""
        try:
            with translated_errors():
                self.api.remove_container(container, v=True, force=True)
        except EngineRefused as error:
            if error.not_found:
                return
            if not error.conflict:
                raise
            # It is already being removed, for another client or for an earlier call that timed out.
            self._await_removal(container)

    def _await_removal(self, container: str) -> None:
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while time.monotonic() < deadline:
            try:
                self.inspect(container)
            except EngineRefused as error:
                if error.not_found:
                    return
                raise
            time.sleep(0.05)

    def inspect(self, container: str) -> dict[str, Any]:
        """A container's configuration and state."""
        with translated_errors():
            return dict(self.api.inspect_container(container))

    def has_exited(self, container: str) -> bool:
        """Whether a container does not run any more, asked on a new connection for 10 seconds at most."""
        with translated_errors(), self.urgent() as client:
            return not client.inspect_container(container)["State"].get("Running")

    def written_bytes(self, container: str) -> int:
        """Bytes the container has written to the engine's disk."""
        with translated_errors():
            return written_bytes(self.api, container)

    def containers(self, label: str) -> list[dict[str, Any]]:
        """The containers that bear `label`, without an inspect each."""
        with translated_errors():
            return list(self.api.containers(all=True, filters={"label": label}))
