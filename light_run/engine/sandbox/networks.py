"""The networks a run may be put on: the isolated bridge, made when first needed, and existing ones by name."""

from __future__ import annotations

import fnmatch
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.networks import bridge_of
from light_run.engine.sandbox import firewall_report
from light_run.engine.sandbox.firewall import protect, unprotect
from light_run.engine.spec import Firewall
from light_run.errors import EngineRefused, StartFailed

_log = logging.getLogger(__name__)

T = TypeVar("T")

# How long a network that was seen is believed to be there.
_FRESH = 30.0

# As the engine has it. Anything else, a path of its API above all, never reaches it.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

# A container is started so often at most while its network is removed or made twice.
_TRIES = 5

# The engine's word for a name that two networks have.
_AMBIGUOUS = "ambiguous"

# A network that was just made is protected within so many seconds where `light-run firewall` is at work.
_COMPANION_SECONDS = 15.0
_POLL_SECONDS = 0.1

# Networks with this label are ours.
LABEL = "light-run.network"
# One bridge for all runs, and none of them can reach another over it.
_ICC = "com.docker.network.bridge.enable_icc"
_OPTIONS = {_ICC: "false"}


class Networks:
    """Knows which networks exist; `isolated` names the one that runs get by default.

    That one, and those existing ones that a pattern in `guarded` matches, are kept from the host and from metadata
    addresses, as far as that can be done from here.
    """

    def __init__(self, engine: Engine, isolated: str, guarded: Sequence[str] = ()) -> None:
        self._engine = engine
        self._isolated = isolated
        self._guarded = tuple(guarded)
        self._lock = threading.Lock()
        self._seen: dict[str, float] = {}
        self._making = threading.Lock()
        self._bridge: str | None = None
        # By the name of the network, when its rules were looked for, and what was found.
        self._firewalls: dict[str, tuple[float, Firewall]] = {}
        # Networks, by their ids, whose rules were said to be missing.
        self._warned: set[str] = set()

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
        # Whoever comes second waits until it is there and the rules stand.
        with self._making:
            self._guard(self._found(network))
        with self._lock:
            self._seen[network] = time.monotonic()
        return network

    def make(self) -> None:
        """Make the isolated network where it is not there. Raises EngineError."""
        with self._making:
            self._found(self._isolated)

    def firewall(self, name: str | None) -> Firewall:
        """Whether runs on the network `name` are kept from the host, as it was found 30 seconds ago at most.

        Raises EngineError.
        """
        network = name or self._isolated
        if network == "none":
            return Firewall.NOT_NEEDED
        if not self._is_guarded(network):
            return Firewall.ABSENT
        looked, state = self._firewalls.get(network, (float("-inf"), Firewall.ABSENT))
        # One thread looks; the others are not held up.
        if time.monotonic() - looked >= _FRESH and self._making.acquire(blocking=False):
            try:
                for each in self._engine.networks(network)[:1]:
                    state = self._look(each)
            finally:
                self._making.release()
        return state

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

    def _found(self, name: str) -> dict[str, Any]:
        if name == self._isolated:
            return self._isolating(self._settled() or self._create())
        for each in self._engine.networks(name):
            if each["Driver"] != "host":
                return each
        raise StartFailed(f"network {name!r} does not exist")

    def _isolating(self, network: dict[str, Any]) -> dict[str, Any]:
        # Read back: an engine such as Podman accepts the option and ignores it.
        if (network.get("Options") or {}).get(_ICC) != "false":
            raise StartFailed(
                f"the container engine does not keep containers on network {self._isolated!r} from each other "
                f'({_ICC} is not "false" there): use "network": "none", or remove the network if it was not created '
                "by light-run"
            )
        return network

    def _settled(self) -> dict[str, Any] | None:
        # Two servers that make it at the same moment have made two, and the engine starts nothing on either. Each
        # of them takes the same one away, the last that was made; or another, where somebody is on that one already.
        found = self._engine.networks(self._isolated)
        for each in reversed(tuple(found)):
            if len(found) > 1 and self._removed(each):
                found.remove(each)
        return found[0] if found else None

    def _removed(self, network: dict[str, Any]) -> bool:
        if (network.get("Labels") or {}).get(LABEL) is None:
            return False
        try:
            self._engine.remove_network(network["Id"])
        except EngineRefused as error:
            return error.not_found
        unprotect(bridge_of(network))
        return True

    def _create(self) -> dict[str, Any]:
        try:
            self._engine.create_network(self._isolated, _OPTIONS, {LABEL: "isolated"})
        except EngineRefused as error:
            if not error.conflict:
                raise StartFailed(
                    f"the isolated network {self._isolated!r} cannot be made: {error}"
                ) from error
        found = self._settled()
        if found is None:
            raise StartFailed(f"the isolated network {self._isolated!r} was removed as soon as it was made")
        return found

    def _guard(self, network: dict[str, Any]) -> None:
        if network["Name"] == self._isolated:
            bridge = bridge_of(network)
            if self._bridge not in (None, bridge):
                unprotect(self._bridge)
            self._bridge = bridge
        if not self._is_guarded(network["Name"]) and LABEL not in (network.get("Labels") or {}):
            return
        state = self._look(network)
        if state is Firewall.ABSENT and network["Id"] not in self._warned:
            self._wait_for_companion(network)

    def _is_guarded(self, name: str) -> bool:
        return name == self._isolated or guarded(name, self._guarded)

    def _look(self, network: dict[str, Any]) -> Firewall:
        # Each time anew: a flush of the packet filter, or a reload of firewalld, takes the rules away.
        there = protect_network(self._engine, network) or firewall_report.names(network["Id"])
        state = Firewall.ACTIVE if there else Firewall.ABSENT
        self._firewalls[network["Name"]] = (time.monotonic(), state)
        if there:
            self._warned.discard(network["Id"])
        return state

    def _wait_for_companion(self, network: dict[str, Any]) -> None:
        end = time.monotonic() + _COMPANION_SECONDS
        # It may be about to start, as after this host's own start.
        while firewall_report.is_there() and time.monotonic() < end:
            if self._look(network) is Firewall.ACTIVE:
                return
            time.sleep(_POLL_SECONDS)
        self._warned.add(network["Id"])
        _log.warning(
            "runs on the network %s reach this host's services and the metadata address: the packet filter's rules "
            "cannot be set or seen from here; on the host of the engine, as root: light-run firewall",
            network["Name"],
        )


def guarded(name: str, patterns: Sequence[str]) -> bool:
    """Whether an existing network of that name gets the rules of the isolated one."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def protect_network(engine: Engine, network: dict[str, Any]) -> bool:
    """Set the rules for a network as the engine describes it; True where they were seen to stand."""
    bridge = engine.bridge(network)
    return bridge is not None and protect(bridge, ipv6=bool(network.get("EnableIPv6")))
