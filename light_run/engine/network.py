"""The networks a run may be put on: the isolated bridge, made when first needed, and existing ones by name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from light_run.engine.client import Engine
from light_run.engine.firewall import protect, unprotect, warn
from light_run.errors import EngineRefused, StartFailed

T = TypeVar("T")

# How long a network that was seen is believed to be there.
_FRESH = 30.0

# As the engine has it. Anything else, a path of its API above all, never reaches it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# One bridge for all runs, and none of them can reach another over it.
_BRIDGE_NAME = "com.docker.network.bridge.name"
_OPTIONS = {"com.docker.network.bridge.enable_icc": "false"}


class Networks:
    """Knows which networks exist; `isolated` names the one that runs get by default."""

    def __init__(self, engine: Engine, isolated: str) -> None:
        self._engine = engine
        self._isolated = isolated
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._protecting = threading.Lock()
        self._protected: str | None = None
        self._warned: str | None = None

    def ensure(self, name: str | None) -> str:
        """The network mode for a run that asked for `name`. Raises StartFailed where there is no such network."""
        network = name or self._isolated
        if network == "none":
            return network
        if not _NAME.fullmatch(network):
            raise StartFailed(f"network {network!r} does not exist")
        with self._lock:
            if time.monotonic() - self._seen.get(network, float("-inf")) < _FRESH:
                return network
        found = self._find(network)
        if network == self._isolated:
            self._protect(found or self._create())
        elif found is None:
            raise StartFailed(f"network {network!r} does not exist")
        with self._lock:
            self._seen[network] = time.monotonic()
        return network

    def start_on(self, network: str, start: Callable[[], T]) -> T:
        """What `start` gives, of a container on `network`.

        It is called once more where it fails since the isolated network was removed behind us.
        Raises whatever `start` raises, StartFailed where the network is gone and not ours to make.
        """
        try:
            return start()
        except EngineRefused as error:
            with self._lock:
                self._seen.pop(network, None)
            if not error.not_found or self._find(network) is not None:
                raise
            self.ensure(network)
            return start()

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            found = self._engine.inspect_network(name)
        except EngineRefused as error:
            if error.not_found:
                return None
            raise
        # The engine also answers to ids and their beginnings, and the host's network has one, too.
        return found if found["Name"] == name and found["Driver"] != "host" else None

    def _create(self) -> dict[str, Any]:
        try:
            self._engine.create_network(self._isolated, _OPTIONS, {"light-run.network": "isolated"})
        except EngineRefused as error:
            if not error.conflict:
                raise StartFailed(
                    f"the isolated network {self._isolated!r} cannot be made: {error}"
                ) from error
        return self._engine.inspect_network(self._isolated)

    def _protect(self, found: dict[str, Any]) -> None:
        bridge = (found.get("Options") or {}).get(_BRIDGE_NAME) or f"br-{found['Id'][:12]}"
        # Whoever comes second waits until the rules stand; where they could not be set, the next one tries again.
        with self._protecting:
            if self._protected == bridge:
                return
            if self._protected is not None:
                unprotect(self._protected)
            self._protected = None
            # An engine elsewhere has its bridges elsewhere.
            if not Path("/sys/class/net", bridge).exists() or protect(bridge):
                self._protected = bridge
            elif self._warned != bridge:
                self._warned = bridge
                warn(bridge)
