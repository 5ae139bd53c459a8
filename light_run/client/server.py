"""The methods of `Client` for the server itself."""

from __future__ import annotations

from light_run.client import model
from light_run.client.connection import Connection
from light_run.client.model import Info, Maintenance

# Removing large images may take a long time.
MAINTENANCE_SECONDS = 600.0


class ServerMethods:
    """Information about the server, and its maintenance."""

    _connection: Connection

    def info(self) -> Info:
        """Return the server's version, engine and free disk space, and the scopes of this token."""
        return model.info(self._connection.json("GET", "/info"))

    def maintain(self) -> Maintenance:
        """Remove unused step images, networks, containers and workspaces, as the server does every hour.

        Needs the scope admin. Returns what was removed.
        """
        timeout = self._connection.timeout + MAINTENANCE_SECONDS
        return model.maintenance(self._connection.json("POST", "/maintenance", timeout=timeout))
