"""The methods of `Runner` for what earlier runners left, and for maintenance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from light_run.engine.files.workspace import Workspaces
from light_run.engine.spec import MaintenanceReport
from light_run.engine.upkeep.inventory import Inventory, OwnContainer
from light_run.engine.upkeep.maintenance import EngineMaintenance


class UpkeepMethods:
    """Finds and removes what is not used any more."""

    _inventory: Inventory
    _maintenance: EngineMaintenance
    _workspaces: Workspaces

    def unassign(self, container: str, run_id: str) -> bool:
        """Undo what an earlier runner did for `run_id` before it launched anything; see `Inventory.unassign`."""
        return self._inventory.unassign(container, self._workspaces.of(run_id))

    def begun(self, container: str) -> datetime | None:
        """When the command that `container` was made for was started (UTC); see `Inventory.begun`."""
        return self._inventory.begun(container)

    def find(self) -> list[OwnContainer]:
        """The containers of earlier runners with the same server id. Raises EngineError."""
        return self._inventory.find()

    def clear(self, keep: Collection[str] = ()) -> MaintenanceReport:
        """Remove what an earlier runner with the same server id left and `keep` does not name; see `Inventory`."""
        return self._inventory.clear(self._workspaces.earlier, keep)

    def maintain(
        self,
        keep: Collection[str] | None = None,
        *,
        keep_networks: Callable[[], Collection[str]] = frozenset,
        stopping: Callable[[], bool] = lambda: False,
    ) -> MaintenanceReport:
        """Remove step images and networks of this server id that are not used any more; returns what was removed.

        `RunnerConfig` says how long unused images of steps are kept, and how many bytes of them. Networks that clients
        created are removed a day later if no container is on them, but for those named in `keep_networks`. If `keep`
        is given, so are workspaces without a container whose names, the ids of their runs, are not in it. `stopping` is
        asked on the way. What fails is named in the report's `failed`.
        """
        return self._maintenance.run(self._workspaces.folder, keep, keep_networks, stopping)
