"""The networks a run may be put on: the isolated bridge, made when first needed, and existing ones by name."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from light_run.engine.daemon.client import Engine
from light_run.engine.sandbox.firewall import protect, unprotect, warn
from light_run.errors import EngineRefused, StartFailed

T = TypeVar("T")

# How long a network that was seen is believed to be there.
_FRESH = 30.0

# As the engine has it. Anything else, a path of its API above all, never reaches it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# A container is started so often at most while its network is removed or made twice.
_TRIES = 5

# The engine's word for a name that two networks have.
_AMBIGUOUS = "ambiguous"

# One bridge for all runs, and none of them can reach another over it.
_BRIDGE_NAME = "com.docker.network.bridge.name"
_LABEL = "light-run.network"
_OPTIONS = {"com.docker.network.bridge.enable_icc": "false"}


class Networks:
    """Knows which networks exist; `isolated` names the one that runs get by default."""

    def __init__(self, engine: Engine, isolated: str) -> None:
        self._engine = engine
        self._isolated = isolated
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._making = threading.Lock()
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
        if network == self._isolated:
            # Whoever comes second waits until it is there and the rules stand.
            with self._making:
                self._protect(self._settled() or self._create())
        elif not self._exists(network):
            raise StartFailed(f"network {network!r} does not exist")
        with self._lock:
            self._seen[network] = time.monotonic()
        return network

    def start_on(self, network: str, start: Callable[[], T]) -> T:
        """What `start` gives, of a container on `network`.

        It is called again where it fails since the isolated network was removed behind us, or made twice: other
        servers may be at that at the same moment. Raises whatever `start` raises, StartFailed where the network is
        gone and not ours to make.
        """
        for _ in range(_TRIES - 1):
            try:
                return start()
            except EngineRefused as error:
                with self._lock:
                    self._seen.pop(network, None)
                gone = error.not_found and not self._exists(network)
                if not gone and not (network == self._isolated and _AMBIGUOUS in str(error)):
                    raise
                self.ensure(network)
        return start()

    def _exists(self, name: str) -> bool:
        return any(each["Driver"] != "host" for each in self._engine.networks(name))

    def _settled(self) -> dict[str, Any] | None:
        # Two servers that make it at the same moment have made two, and the engine starts nothing on either. Each
        # of them takes the same one away, the last that was made; or another, where somebody is on that one already.
        found = self._engine.networks(self._isolated)
        for each in reversed(tuple(found)):
            if len(found) > 1 and self._removed(each):
                found.remove(each)
        return found[0] if found else None

    def _removed(self, network: dict[str, Any]) -> bool:
        if (network.get("Labels") or {}).get(_LABEL) is None:
            return False
        try:
            self._engine.remove_network(network["Id"])
        except EngineRefused as error:
            return error.not_found
        unprotect(_bridge(network))
        return True

    def _create(self) -> dict[str, Any]:
        try:
            self._engine.create_network(self._isolated, _OPTIONS, {_LABEL: "isolated"})
        except EngineRefused as error:
            if not error.conflict:
                raise StartFailed(
                    f"the isolated network {self._isolated!r} cannot be made: {error}"
                ) from error
        found = self._settled()
        if found is None:
            raise StartFailed(f"the isolated network {self._isolated!r} was removed as soon as it was made")
        return found

    def _protect(self, found: dict[str, Any]) -> None:
        bridge = _bridge(found)
        if self._protected is not None and self._protected != bridge:
            unprotect(self._protected)
        self._protected = None
        # With each look: a flush of the packet filter, or a reload of firewalld, takes the rules away.
        # An engine elsewhere has its bridges elsewhere.
        if not Path("/sys/class/net", bridge).exists() or protect(bridge):
            self._protected, self._warned = bridge, None
        elif self._warned != bridge:
            self._warned = bridge
            warn(bridge)


def _bridge(network: dict[str, Any]) -> str:
    # Its interface on the engine's host.
    return str((network.get("Options") or {}).get(_BRIDGE_NAME) or f"br-{network['Id'][:12]}")
