"""What all runs of one runner share: the parts of the engine package, and their construction."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.files.mounts import Mounts, Placement
from light_run.engine.files.workspace import Workspaces
from light_run.engine.images.build import Builder
from light_run.engine.images.store import Images
from light_run.engine.images.uses import StepUses
from light_run.engine.pool.keys import ParkKey
from light_run.engine.pool.pool import Pool
from light_run.engine.sandbox.disk import DiskWatch
from light_run.engine.sandbox.networks import Networks
from light_run.engine.sandbox.options import usual_runtime
from light_run.engine.spec import Limits, RunSpec
from light_run.engine.upkeep.leftovers import Leftovers
from light_run.errors import EngineError, StartFailed


@dataclass(frozen=True, slots=True)
class RunnerContext:
    """What every run of one runner shares."""

    engine: Engine
    config: RunnerConfig
    images: Images
    builder: Builder
    networks: Networks
    mounts: Mounts
    pool: Pool
    leftovers: Leftovers
    disk: DiskWatch

    def limits(self, spec: RunSpec) -> Limits:
        """Return the limits of `spec`."""
        return spec.limits or self.config.limits

    def runtime(self, spec: RunSpec) -> str | None:
        """Return the runtime for `spec`; None is the engine's own default. Raises EngineError."""
        return spec.runtime or usual_runtime(self.engine, self.config)

    def missing_limits(self) -> tuple[str, ...]:
        """Return the limits that the engine cannot enforce, unless that is allowed. Raises EngineError."""
        return () if self.config.allow_unlimited else self.engine.missing_limits()

    def require_limits(self) -> None:
        """Raise StartFailed if the engine would silently ignore a limit."""
        if missing := self.missing_limits():
            raise StartFailed(missing_limits_error(missing))

    def network(self, spec: RunSpec) -> str:
        """Return the network mode for `spec`. Raises StartFailed if the network does not exist."""
        return self.networks.ensure(spec.network or self.config.default_network)

    def own_hosts(self, network: str, placement: Placement) -> bool:
        """Return True if a container gets the workspace's hosts file. Raises EngineError."""
        return network == "none" and self.mounts.takes_hosts(placement)

    def pins(self) -> dict[ParkKey, int]:
        """Return how many containers to keep parked for each key."""
        pins: dict[ParkKey, int] = {}
        for name, count in self.config.parked_pins.items():
            with contextlib.suppress(EngineError):
                # Nothing is parked on an engine that may not start runs.
                self.require_limits()
                image = self.images.find(name)
                if image is not None:
                    spec = RunSpec(image=name)
                    network, runtime = self.network(spec), self.runtime(spec)
                    pins[ParkKey(image.id, self.config.limits, network, spec.workdir, runtime)] = count
        return pins


def missing_limits_error(missing: Sequence[str]) -> str:
    """Return the error message for an engine that cannot enforce limits."""
    return (
        f"the container engine cannot limit {', '.join(missing)}: give it cgroups of its own (rootless engines need "
        "cgroup v2 with delegation), or set LIGHT_RUN_ALLOW_UNLIMITED=true to start runs all the same"
    )


def create_context(
    engine: Engine, config: RunnerConfig, uses: StepUses, workspaces: Workspaces
) -> RunnerContext:
    """Create the parts. Does not call the engine yet."""
    images = Images(engine, config.registries, config.pull_timeout, uses)
    networks = Networks(engine, config.network, config.guarded)
    leftovers = Leftovers(engine, config)
    mounts = Mounts(engine, config, workspaces, leftovers)
    disk = DiskWatch(engine, config, leftovers)
    pool = Pool(
        engine,
        config,
        mounts=mounts,
        networks=networks,
        leftovers=leftovers,
        disk=disk,
        workspaces=workspaces,
        pins=lambda: context.pins(),  # noqa: PLW0108 # not there yet
    )
    context = RunnerContext(
        engine=engine,
        config=config,
        images=images,
        builder=Builder(engine, images, networks, disk=disk, leftovers=leftovers, config=config),
        networks=networks,
        mounts=mounts,
        pool=pool,
        leftovers=leftovers,
        disk=disk,
    )
    return context
