"""Calls for networks: create, connect, list, remove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from light_run.engine.daemon.session import Session
from light_run.engine.daemon.transport import translated_errors

_BRIDGE = "bridge"
_BRIDGE_NAME = "com.docker.network.bridge.name"


def bridge_of(network: Mapping[str, Any]) -> str:
    """The interface of a bridge network of Docker's on the engine's host."""
    return str((network.get("Options") or {}).get(_BRIDGE_NAME) or f"br-{network['Id'][:12]}")


class NetworkCalls(Session):
    """The engine's calls for networks."""

    def networks(self, name: str | None = None) -> list[dict[str, Any]]:
        """All networks, or those of just that name, oldest first: the engine does not see to it that there is one."""
        with translated_errors():
            # It takes the name for a pattern that is found anywhere; Podman's own network has two names, of which it
            # finds one and lists the other.
            found = self.api.networks(names=None if name in (None, _BRIDGE) else [name])
        if name is not None:
            found = [each for each in found if each["Name"] == name]
        return sorted(found, key=lambda each: (each["Created"], each["Id"]))

    def bridge(self, network: Mapping[str, Any]) -> str | None:
        """The interface of a bridge network on the engine's host, as the engine names it.

        None where this host cannot see it: a rootless engine has its networks in a namespace of its own, in which an
        interface may have the name of another one here.
        """
        if network["Driver"] != _BRIDGE or self.features().rootless:
            return None
        if self.features().podman:
            return str(self._libpod(f"/networks/{quote(network['Name'], safe='')}/json")["network_interface"])
        return bridge_of(network)

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
