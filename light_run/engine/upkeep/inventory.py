"""Inventory of what earlier servers with the same id left at the engine and on the disk, and its removal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.execution import engine_time
from light_run.engine.files.workspace import Workspace
from light_run.engine.references import STEP_LABEL
from light_run.engine.spec import MaintenanceReport
from light_run.engine.upkeep.leftovers import Leftover, Leftovers
from light_run.errors import EngineRefused

# The start time that the engine reports for a container that was never started.
_NEVER = datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class OwnContainer:
    """A container with the server's label.

    `kind` is ``run``, ``parked``, ``build`` or ``probe``. `run_id` is empty if the container was not made for one run.
    `mounted` are the host folders mounted into it.
    """

    container: str
    kind: str
    run_id: str
    running: bool
    image: str
    mounted: tuple[str, ...]


class Inventory:
    """Finds and removes containers and images by the label of `server_id`; touches nothing without it."""

    def __init__(self, engine: Engine, leftovers: Leftovers, config: RunnerConfig) -> None:
        self._engine = engine
        self._leftovers = leftovers
        self._server_id = config.server_id
        self._session = config.session

    def find(self) -> list[OwnContainer]:
        """Return the containers of earlier servers with the same id. Raises EngineError."""
        found = []
        for container in self._engine.containers(f"light-run.server={self._server_id}"):
            labels = container.get("Labels") or {}
            if labels.get("light-run.session") == self._session:
                continue
            found.append(
                OwnContainer(
                    container=str(container["Id"]),
                    kind=labels.get("light-run.kind", ""),
                    run_id=labels.get("light-run.run", ""),
                    running=container.get("State") == "running",
                    image=str(container.get("ImageID")),
                    mounted=tuple(str(mount.get("Source")) for mount in container.get("Mounts") or []),
                )
            )
        return found

    def begun(self, container: str) -> datetime | None:
        """Return when the command that `container` was made for was started (UTC), or None if that is not certain.

        A parked container runs a shell, which may or may not have become the command. Raises EngineError.
        """
        try:
            found = self._engine.inspect(container)
        except EngineRefused as error:
            if error.not_found:
                return None
            raise
        begun = engine_time(str(found["State"]["StartedAt"]))
        labels = found["Config"].get("Labels") or {}
        return begun if begun > _NEVER and labels.get("light-run.kind") == "run" else None

    def unassign(self, container: str, workspace: Workspace) -> bool:
        """Undo an assignment without a launch; True if `workspace` has its files as they were.

        Raises EngineError if the engine does not answer; call it again then.
        """
        self._engine.remove(container)
        workspace.move_back()
        return workspace.files.is_dir()

    def clear(self, workspaces: Collection[Path], keep: Collection[str]) -> MaintenanceReport:
        """Remove containers, `workspaces`, unnamed step images and probes of earlier servers.

        `keep` contains the ids of containers and runs that are still needed; it is consulted after the engine has
        listed what exists. Returns what was removed. Raises EngineError.
        """
        found = self.find()
        kept = [one for one in found if one.container in keep or one.run_id in keep]
        for one in found:
            if one not in kept:
                self._engine.remove(one.container)
        # By name only: the state directory may have been moved.
        mounted = {Path(source).parent.name for one in kept for source in one.mounted}
        for folder in workspaces:
            # The server died between moving a run's files and recording their new place.
            moved = Workspace(folder).moved_to()
            if folder.name in keep and moved is not None and moved.folder.name not in mounted:
                Workspace(folder).move_back()
        image = found[0].image if found else None
        removed = 0
        for folder in workspaces:
            workspace = Workspace(folder)
            if folder.name not in keep and folder.name not in mounted:
                self._leftovers.remove(Leftover(None, [workspace], image))
                removed += not folder.exists()
        self._clear_images()
        return MaintenanceReport(containers=len(found) - len(kept), workspaces=removed)

    def _clear_images(self) -> None:
        for step_image in self._engine.images(f"{STEP_LABEL}={self._server_id}"):
            if not step_image.get("RepoTags"):
                self._engine.remove_image(str(step_image["Id"]))
        # Probes of a server that was killed meanwhile; an image committed from a run has the label, too.
        for image in self._engine.images(f"light-run.server={self._server_id}"):
            labels = image["Labels"]
            if labels.get("light-run.kind") == "probe" and labels.get("light-run.session") != self._session:
                self._engine.remove_image(str(image["Id"]))
