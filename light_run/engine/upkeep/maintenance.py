"""Maintenance: removes step images, networks and workspaces of this server that nobody uses any more.

Everything is found by the server's label; what lacks it is never touched.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.workspace import Workspace
from light_run.engine.images.uses import StepUses
from light_run.engine.references import BASE_LABEL, BASE_SIZE_LABEL, STEP_LABEL, STEP_REPOSITORY
from light_run.engine.sandbox.user_networks import UserNetworks
from light_run.engine.spec import MaintenanceReport
from light_run.engine.upkeep.leftovers import Leftover, Leftovers
from light_run.errors import EngineError, Overloaded

_log = logging.getLogger(__name__)

# Seconds in which a run that has found its image, or has got its workspace, certainly has its container.
SETTLED = 600.0
# Unused networks are removed at this age, in seconds.
NETWORK_AGE = 86_400.0


@dataclass(slots=True)
class _StepImage:
    # An image of steps. `names` are its cache keys, none where the engine has given them to another image.
    id: str
    base: str
    keys: list[str]
    size: int
    used: float


class EngineMaintenance:
    """Removes what is unused; each kind separately, so that a failure does not stop the others."""

    def __init__(
        self,
        engine: Engine,
        config: RunnerConfig,
        *,
        uses: StepUses,
        networks: UserNetworks,
        leftovers: Leftovers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._config = config
        self._uses = uses
        self._networks = networks
        self._leftovers = leftovers
        self._clock = clock

    def run(
        self,
        workspaces: Path,
        keep: Collection[str] | None,
        keep_networks: Callable[[], Collection[str]],
        stopping: Callable[[], bool],
    ) -> MaintenanceReport:
        """Remove unused step images, networks and, unless `keep` is None, workspaces; see `Runner.maintain`."""
        report = MaintenanceReport()
        parts: dict[str, Callable[[MaintenanceReport], MaintenanceReport]] = {
            "workspaces": lambda found: found if keep is None else self._workspaces(found, workspaces, keep),
            "images": lambda found: self._images(found, stopping),
            "networks": lambda found: replace(
                found, networks=self._networks.clean_up("", NETWORK_AGE, None, keep_networks)
            ),
        }
        for name, part in parts.items():
            if stopping():
                break
            try:
                report = part(report)
            # Overloaded: what is needed cannot be read now.
            except (EngineError, OSError, Overloaded) as error:
                _log.warning("maintenance failed", extra={"part": name, "error": str(error)})
                report = replace(report, failed=(*report.failed, name))
        return report

    def _workspaces(
        self, report: MaintenanceReport, folder: Path, keep: Collection[str]
    ) -> MaintenanceReport:
        since = self._clock() - SETTLED
        # Listed before the containers: one that is made later has none yet, and is too young.
        old = [path for path in folder.iterdir() if path.stat().st_mtime < since]
        containers = self._engine.containers(f"light-run.server={self._config.server_id}") if old else []
        mounted = {
            Path(str(mount.get("Source"))).parent.name
            for container in containers
            for mount in container.get("Mounts") or []
        }
        for path in old:
            if not (path.name in mounted or path.name in keep or path in self._leftovers.folders):
                self._leftovers.remove(Leftover(None, [Workspace(path)], _image_of(containers)))
                report = replace(report, workspaces=report.workspaces + (not path.exists()))
        return report

    def _images(self, report: MaintenanceReport, stopping: Callable[[], bool]) -> MaintenanceReport:
        now = self._clock()
        images = {image.id: image for image in self._step_images()}
        known = {key for image in images.values() for key in image.keys}
        self._uses.forget_except(known, now - SETTLED)
        for image in images.values():
            # An image that others were built on is used with these.
            base = images.get(image.base)
            while base is not None and base.used < image.used:
                base.used = image.used
                base = images.get(base.base)
        total = sum(image.size for image in images.values())
        built_on = Counter(image.base for image in images.values())
        config = self._config
        # Of two with the same last use, the one that was built on the other goes first.
        for image in sorted(images.values(), key=lambda each: (each.used, -_depth(each, images))):
            unused = now - image.used
            old = not image.keys or unused > config.step_images_age or total > config.step_images_bytes
            if stopping() or unused < SETTLED:
                break
            # With an image built on it, it would only lose its name.
            if old and not built_on[image.id] and self._removed(image, now - SETTLED):
                total -= image.size
                built_on[image.base] -= 1
                named = bool(image.keys)
                report = replace(
                    report,
                    step_images=report.step_images + named,
                    unnamed_images=report.unnamed_images + (not named),
                    freed_bytes=report.freed_bytes + image.size,
                )
        return report

    def _removed(self, image: _StepImage, unused_since: float) -> bool:
        if not image.keys:
            return self._engine.remove_image(image.id)
        removed = True
        for key in image.keys:
            with self._uses.removing(key, unused_since) as free:
                # By its name: if another client has added a name, the image itself stays.
                removed &= free and self._engine.remove_image(f"{STEP_REPOSITORY}:{key}")
        return removed

    def _step_images(self) -> Iterator[_StepImage]:
        for found in self._engine.images(f"{STEP_LABEL}={self._config.server_id}", everything=True):
            labels: Mapping[str, Any] = found.get("Labels") or {}
            names = [name.rpartition(":") for name in found.get("RepoTags") or ()]
            # Podman puts a registry in front.
            keys = [key for name, _, key in names if name.removeprefix("localhost/") == STEP_REPOSITORY]
            # Images that others built on it inherit its label, but have names of their own.
            if keys or all(name == "<none>" for name, _, _ in names):
                uses = [use for key in keys if (use := self._uses.last(key)) is not None]
                yield _StepImage(
                    id=str(found["Id"]),
                    base=labels.get(BASE_LABEL, ""),
                    keys=keys,
                    size=max(0, int(found.get("Size") or 0) - _number(labels.get(BASE_SIZE_LABEL))),
                    used=max(uses, default=float(found["Created"])),
                )


def _depth(image: _StepImage, images: Mapping[str, _StepImage]) -> int:
    depth, base = 0, images.get(image.base)
    while base is not None and depth < len(images):
        depth, base = depth + 1, images.get(base.base)
    return depth


def _number(text: object) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() else 0


def _image_of(containers: Collection[Mapping[str, Any]]) -> str | None:
    return next((str(each.get("ImageID")) for each in containers), None)
