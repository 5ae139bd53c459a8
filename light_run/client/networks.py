"""The methods of `Client` for networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from light_run.client.connection import Connection


class NetworkMethods:
    """Networks that runs can name."""

    _connection: Connection

    def create_network(
        self,
        name: str,
        *,
        icc: bool = False,
        exclusive: bool = False,
        labels: Mapping[str, str] | None = None,
        subnet: str | None = None,
        gateway: str | None = None,
        ip_range: str | None = None,
    ) -> None:
        """Create a network for runs; an existing one is left unchanged, unless `exclusive`.

        Containers on it can reach each other if `icc`. Raises `NetworkExists`, `NetworkConflict`, `InvalidSpec`.
        """
        addresses = {"subnet": subnet, "gateway": gateway, "ipRange": ip_range}
        ipam = {key: value for key, value in addresses.items() if value is not None}
        body = {
            "name": name,
            "iccEnabled": icc,
            "exclusive": exclusive,
            "labels": dict(labels or {}),
            "ipam": ipam,
        }
        self._connection.json(
            "POST", "/networks", body=lambda: json.dumps(body).encode(), retry=not exclusive
        )

    def network_exists(self, name: str) -> bool:
        """Return True if there is a network of that name."""
        found: bool = self._connection.json("GET", _network(name))["exists"]
        return found

    def delete_network(self, name: str) -> None:
        """Delete a network that was created through light-run; one that does not exist is fine.

        Raises `NetworkInUse` if a container is connected to it, `NetworkNotFound` if it was not created through
        light-run.
        """
        with self._connection.send("DELETE", _network(name)):
            pass

    def clean_up_networks(self, prefix: str = "", *, max_age: float = 1800.0) -> int:
        """Delete unused networks whose name begins with `prefix` and that are older than `max_age` seconds."""
        body = {"prefix": prefix, "maxAgeMs": round(max_age * 1000)}
        removed = self._connection.json("POST", "/networks/cleanup", body=lambda: json.dumps(body).encode())
        return int(removed["removed"])


def _network(name: str) -> str:
    return f"/networks/{quote(name, safe='')}"
