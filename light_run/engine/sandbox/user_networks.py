"""Networks that clients create for their runs: labelled, so that no other network is ever touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.execution import engine_time
from light_run.engine.daemon.networks import bridge_of
from light_run.engine.sandbox.firewall import unprotect
from light_run.engine.sandbox.networks import LABEL
from light_run.engine.spec import NetworkSpec
from light_run.errors import (
    EngineRefused,
    Fault,
    InvalidSpec,
    NetworkConflict,
    NetworkExists,
    NetworkInUse,
    NetworkNotFound,
)

_SERVER, _OWNER = "light-run.server", "light-run.owner"
_ICC = "com.docker.network.bridge.enable_icc"
# How long, and how often, to look whether the containers of runs that have ended are gone.
_REMOVAL_SECONDS, _PAUSE = 5.0, 0.05
# Names of the engine's own, and one that is a route.
_RESERVED = frozenset({"bridge", "host", "none", "default", "cleanup"})


class UserNetworks:
    """Creates and deletes networks for clients; `release` is called with the name of one that is to be deleted."""

    def __init__(self, engine: Engine, server_id: str, isolated: str, release: Callable[[str], None]) -> None:
        self._engine = engine
        self._server_id = server_id
        self._reserved = _RESERVED | {isolated}
        self._release = release

    def create(self, spec: NetworkSpec, *, exclusive: bool = False) -> None:
        """Create a network; one of that name that exists is left as it is, unless `exclusive`.

        Raises `NetworkExists`, `NetworkConflict`, InvalidSpec for a reserved name or addresses the engine refuses,
        EngineError.
        """
        self._check(spec.name)
        if not self._engine.networks(spec.name):
            labels = {**spec.labels, LABEL: "user", _SERVER: self._server_id, _OWNER: spec.owner}
            try:
                self._engine.create_network(spec.name, {_ICC: str(spec.icc).lower()}, labels, spec.ipam)
            except EngineRefused as error:
                if not error.conflict:
                    raise _refused(spec, error) from error
            else:
                return
        if exclusive:
            raise NetworkExists(f"network {spec.name!r} already exists")

    def exists(self, name: str) -> bool:
        """Return True if the engine has a network of that name. Raises EngineError."""
        return bool(self._engine.networks(name))

    def owns(self, name: str, owner: str) -> bool:
        """Return True if `owner` has created the network `name` here. Raises EngineError."""
        return any(self._is_of(each, owner) for each in self._engine.networks(name))

    def delete(self, name: str, owner: str | None, in_use: Callable[[], Collection[str]] = frozenset) -> None:
        """Delete a network that `owner` created (None: anybody); one that does not exist is fine.

        `in_use` names the networks that runs need. Waits a few seconds for containers of runs that have ended.
        Raises `NetworkInUse`, `NetworkNotFound` for a network of another owner, InvalidSpec, EngineError.
        """
        self._check(name)
        for network in self._engine.networks(name):
            if not self._is_of(network, owner):
                raise NetworkNotFound(
                    f"network {name!r} was not created through light-run: delete it in the engine"
                )
            if name in in_use() or not (self._removed(network) or self._removed_once_emptied(network)):
                raise NetworkInUse(f"network {name!r} has containers connected to it: end their runs first")

    def clean_up(
        self,
        prefix: str,
        max_age: float,
        owner: str | None,
        in_use: Callable[[], Collection[str]] = frozenset,
    ) -> int:
        """Delete unused networks of `owner` (None: all of this server) older than `max_age` seconds; returns how many.

        Only names that begin with `prefix` are considered, and none of those `in_use`, which is called if there is
        any to delete. Raises EngineError.
        """
        old = []
        for network in self._engine.networks_with(f"{_SERVER}={self._server_id}"):
            age = time.time() - engine_time(str(network["Created"])).timestamp()
            wanted = network["Name"].startswith(prefix) and age >= max_age
            if wanted and self._is_of(network, owner):
                old.append(network)
        kept = in_use() if old else ()
        unused = [network for network in old if network["Name"] not in kept]
        left = [network for network in unused if not self._removed(network)]
        return len(unused) - len(left) + sum(self._removed_once_emptied(network) for network in left)

    def _check(self, name: str) -> None:
        if name in self._reserved:
            raise InvalidSpec([Fault(("name",), "not_allowed", f"name is {name!r}; this name is reserved")])

    def _is_of(self, network: Mapping[str, Any], owner: str | None) -> bool:
        labels = network.get("Labels") or {}
        ours = labels.get(LABEL) == "user" and labels.get(_SERVER) == self._server_id
        return ours and (owner is None or labels.get(_OWNER) == owner)

    def _removed_once_emptied(self, network: dict[str, Any]) -> bool:
        # Neither parked containers nor those of runs that have ended are a reason to keep it. The end of a run is
        # known before its container is gone.
        deadline = time.monotonic() + _REMOVAL_SECONDS
        while True:
            self._release(network["Name"])
            if self._removed(network):
                return True
            found = self._engine.containers(f"{_SERVER}={self._server_id}")
            ours = any(network["Name"] in _networks_of(each) for each in found)
            if not ours or time.monotonic() > deadline:
                # Once more: the last of them may have gone meanwhile.
                return self._removed(network)
            time.sleep(_PAUSE)

    def _removed(self, network: dict[str, Any]) -> bool:
        try:
            self._engine.remove_network(network["Id"])
        except EngineRefused as error:
            return error.not_found
        unprotect(bridge_of(network))
        return True


def _networks_of(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("NetworkSettings") or {}).get("Networks") or {}


def _refused(spec: NetworkSpec, error: EngineRefused) -> Exception:
    words = str(error)
    if "overlap" in words.lower():
        return NetworkConflict(f"the subnet of network {spec.name!r} overlaps with another network")
    if spec.ipam:
        return InvalidSpec([Fault(("ipam",), "invalid_value", f"ipam is refused by the engine: {words}")])
    return error
