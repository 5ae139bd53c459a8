"""The only place that talks to docker-py: engine verbs in, light-run's own errors out.

Every call a run needs is here once. docker-py wants one client a thread (its sessions are not
thread-safe), so each thread that calls gets its own, and the API version is asked for only once.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import IO, Any

import docker
from docker.utils import parse_repository_tag

from light_run.engine.daemon.address import engine_address
from light_run.engine.daemon.events import ACTIONS, ExitEvents, PendingExit
from light_run.engine.daemon.features import UNNAMED_RUNTIME, Features, adapted, features
from light_run.engine.daemon.stream import EngineStream
from light_run.engine.daemon.transport import breakable, connect, open_stream, translated_errors
from light_run.engine.daemon.usage import written_bytes
from light_run.engine.stop import StopRequest
from light_run.errors import EngineRefused

# An engine under a few hundred starts at once takes its time over each; a hung one must not hold us for ever.
CALL_TIMEOUT = 300
_AUDIT_TIMEOUT = 5.0
# A removal that is under way is over in so many seconds, or hangs.
_REMOVAL_SECONDS = 5.0
# By which words of its description an engine without delegated cgroups, such as a rootless one, says that a limit is
# not held. It takes the limit without a word.
_LIMITS = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
# Every container of ours has it, whichever server it belongs to.
CONTAINER_LABEL = "light-run.kind"
_BRIDGE = "bridge"


class Engine:
    """A container engine, local or remote. Every method raises `EngineUnavailable` or `EngineRefused`.

    Raises SettingsError where the environment names one that cannot be used. `address` is its URL.
    """

    def __init__(self, timeout: int = CALL_TIMEOUT) -> None:
        self._address = engine_address()
        self.address = self._address.url
        self._timeout = timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: weakref.WeakSet[docker.APIClient] = weakref.WeakSet()
        self._version: str | None = None
        self._description: dict[str, Any] | None = None
        self._features: Features | None = None
        self._exits = ExitEvents(self._events, self._exited, self._exit_code)

    def _connect(self) -> Any:
        client = connect(self._address, self._version, self._timeout)
        self._version = client.api_version
        with self._lock:
            self._clients.add(client)
        return client

    @property
    def api(self) -> Any:
        """This thread's docker-py client; Any, since its stubs leave out most of what is used here."""
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._connect()
        return client

    def close(self) -> None:
        """Close the event stream and the idle connections of every thread; the engine stays usable."""
        self._exits.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    # -- the engine itself

    def ping(self, timeout: float = 3.0) -> str:
        """What the engine calls itself, such as ``Docker/20.10.24 (linux)``, if it answers in `timeout` seconds."""
        with translated_errors():
            api = self.api
            response = api._get(api._url("/_ping"), timeout=timeout)
            api._raise_for_status(response)
            return str(response.headers.get("Server", ""))

    def info(self) -> dict[str, Any]:
        """The engine's own description of itself."""
        with translated_errors():
            return dict(self.api.info())

    def runtimes(self) -> tuple[str, ...]:
        """The names of the runtimes the engine has; asked once."""
        return tuple(sorted(self._described().get("Runtimes") or {}))

    def missing_limits(self) -> tuple[str, ...]:
        """What the engine cannot hold containers to, of ``memory``, ``cpus``, ``pids`` and ``seccomp``; asked once."""
        found = self._described()
        missing = [name for name, key in _LIMITS.items() if found.get(key) is False]
        options = found.get("SecurityOptions")
        if options is not None and not any("seccomp" in option for option in options):
            missing.append("seccomp")
        return tuple(missing)

    def _described(self) -> dict[str, Any]:
        if self._description is None:
            self._description = self.info()
        return self._description

    # -- containers

    def create(self, config: Mapping[str, Any]) -> str:
        """Create a container from a configuration in Docker's form; its id.

        A runtime that the configuration names is read back: Podman accepts one that it does not have.
        """
        config = adapted(config, self.features())
        with translated_errors():
            container = str(self.api.create_container_from_config(config)["Id"])
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
        with translated_errors():
            api = self.api
            # Podman tells the name by its own API alone.
            url = f"{api.base_url}/v4.0.0/libpod/containers/{container}/json"
            return str(api._result(api._get(url), json=True).get("OCIRuntime"))

    def features(self) -> Features:
        """What the engine wants put differently than Docker does; asked once."""
        if self._features is None:
            self._features = features(self.ping(), self._described())
        return self._features

    def start(self, container: str) -> None:
        """Start a created container."""
        with translated_errors():
            self.api.start(container)

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a container `signal`; one that does not run, or is gone, is fine."""
        try:
            with translated_errors():
                self.api.kill(container, signal)
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
        """Start another process in a running container and do not wait for it."""
        with translated_errors():
            created = self.api.exec_create(container, list(command), stdout=False, stderr=False)
            self.api.exec_start(created["Id"], detach=True)

    def exit_causes(self, container: str, since: float, until: float) -> frozenset[str]:
        """Return which of the events ``start``, ``kill``, ``oom`` and ``die`` the engine has of the container.

        ``kill``: the engine, or somebody through it, sent it a signal. Times are seconds since the epoch. An engine
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
            # Its removal is under way already, asked for by somebody else or by a call that was given up.
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

    def written_bytes(self, container: str) -> int:
        """Bytes the container has written to the engine's disk."""
        with translated_errors():
            return written_bytes(self.api, container)

    def containers(self, label: str) -> list[dict[str, Any]]:
        """The containers that bear `label`, without an inspect each."""
        with translated_errors():
            return list(self.api.containers(all=True, filters={"label": label}))

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
            stream.write_by(stdin)
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
        pending = self._exits.watch(container)
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

    @contextlib.contextmanager
    def _chunks(self, url: str, container: str, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        with translated_errors():
            stream = self._open("GET", url, container, params)
        with contextlib.closing(stream):
            yield stream.chunks(self._timeout)

    def _open(
        self,
        method: str,
        url: str,
        container: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> EngineStream:
        api = self.api
        return open_stream(api, method, api._url(url, container), params, headers)

    # -- images

    def inspect_image(self, name: str) -> dict[str, Any]:
        """An image's id and configuration."""
        with translated_errors():
            return dict(self.api.inspect_image(name))

    def images(self, label: str, *, everything: bool = False) -> list[dict[str, Any]]:
        """The images that bear `label`; with `everything`, unnamed ones that others were built on as well."""
        with translated_errors():
            return list(self.api.images(all=everything, filters={"label": label}))

    def remove_image(self, name: str) -> bool:
        """Remove an image, and none below it; True where it is gone, False where it is in use."""
        try:
            with translated_errors():
                # Unnamed images below it may be somebody else's.
                self.api.remove_image(name, noprune=True)
        except EngineRefused as error:
            if not (error.not_found or error.conflict):
                raise
            return error.not_found
        return True

    def import_image(self, tar: bytes, name: str, labels: Mapping[str, str]) -> str:
        """Make an image of the files in a tar; its id. Podman 4 does not give it the `name`."""
        repository, tag = name.split(":")
        # A Dockerfile's instructions, in which JSON is a way to quote.
        changes = [f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()]
        with translated_errors():
            told = self.api.import_image_from_data(tar, repository=repository, tag=tag, changes=changes)
        try:
            return str(json.loads(told.splitlines()[-1])["status"])
        except (ValueError, LookupError, TypeError):
            raise EngineRefused(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"no image was made: {told[:1000]}"
            ) from None

    @contextlib.contextmanager
    def pull(
        self, name: str, credentials: Mapping[str, str], abandoned: StopRequest
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Pull the image `name`; yields the engine's progress messages, the last of which may be an error.

        Runs on a client of its own: leaving the block early, or a cancel of `abandoned`, closes the
        connection, which makes the engine give the pull up. `credentials` are for the registry, in the form of
        the engine's API; empty for none.
        """
        repository, tag = parse_repository_tag(name)
        with translated_errors():
            client = self._connect()
        with breakable(client) as break_off, abandoned.subscribed(break_off), translated_errors():
            yield client.pull(
                repository, tag=tag or "latest", stream=True, decode=True, auth_config=dict(credentials)
            )

    def platforms(self, name: str, credentials: Mapping[str, str]) -> tuple[str, ...]:
        """The platforms that an image's registry has it for, such as ``linux/arm64``."""
        with translated_errors():
            found = self.api.inspect_distribution(name, auth_config=dict(credentials))
            parts = (
                (each.get(key) for key in ("os", "architecture", "variant")) for each in found["Platforms"]
            )
            return tuple(sorted({"/".join(filter(None, each)) for each in parts}))

    def commit(self, container: str, repository: str, tag: str, config: Mapping[str, Any]) -> str:
        """Make an image of a container; its id."""
        with translated_errors():
            return str(self.api.commit(container, repository, tag, conf=dict(config))["Id"])

    # -- networks

    def networks(self, name: str | None = None) -> list[dict[str, Any]]:
        """All networks, or those of just that name, oldest first: the engine does not see to it that there is one."""
        with translated_errors():
            # It takes the name for a pattern that is found anywhere; Podman's own network has two names, of which it
            # finds one and lists the other.
            found = self.api.networks(names=None if name in (None, _BRIDGE) else [name])
        if name is not None:
            found = [each for each in found if each["Name"] == name]
        return sorted(found, key=lambda each: (each["Created"], each["Id"]))

    def create_network(
        self,
        name: str,
        options: Mapping[str, str],
        labels: Mapping[str, str],
        ipam: Mapping[str, str] | None = None,
    ) -> None:
        """Create a bridge network; 409 if the name is taken.

        `ipam` has ``Subnet``, ``Gateway`` and ``IPRange``, each of them optional.
        """
        with translated_errors():
            self.api.create_network(
                name,
                driver="bridge",
                options=dict(options),
                labels=dict(labels),
                ipam={"Driver": "default", "Config": [dict(ipam)]} if ipam else None,
                check_duplicate=True,
            )

    def connect(self, network: str, container: str) -> None:
        """Connect a container to another network."""
        with translated_errors():
            self.api.connect_container_to_network(container, network)

    def networks_with(self, label: str) -> list[dict[str, Any]]:
        """Return the networks that have `label`."""
        with translated_errors():
            return list(self.api.networks(filters={"label": label}))

    def remove_network(self, network: str) -> None:
        """Remove the network with that id; 403 where a container is on it."""
        with translated_errors():
            self.api.remove_network(network)
