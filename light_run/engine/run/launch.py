"""From an image to a started command: in a parked container where there is one, else in a new one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from light_run.engine.daemon.execution import Streams
from light_run.engine.files.mounts import Placement, WorkdirContent
from light_run.engine.files.workspace import Workspace, container_path
from light_run.engine.images import platforms
from light_run.engine.images.store import Image
from light_run.engine.pool.keys import ParkKey
from light_run.engine.pool.launcher import launch_script, passes_through_shell
from light_run.engine.run.context import RunnerContext
from light_run.engine.sandbox.options import Sandbox, container_config, labels
from light_run.engine.spec import Observer, Phase, RunSpec
from light_run.engine.stop import StopRequest
from light_run.errors import EngineRefused, ImageNotFound, PullFailed, StartFailed

# Mounted over by the runtime when a container starts.
_KERNEL_FOLDERS = ("dev", "proc", "sys")


@dataclass(slots=True)
class RunResources:
    """What a run has taken so far and must give back: filled in as it goes, so that no way out leaks."""

    staged: Workspace
    container: str | None = None
    streams: Streams | None = None
    parked: Workspace | None = None
    was_parked: bool = False
    mounted: Workspace | None = None

    @property
    def started(self) -> tuple[str, Streams]:
        """The started container and the connections to it."""
        if self.container is None or self.streams is None:
            raise StartFailed("no container was started")
        return self.container, self.streams

    def reconnect(self, streams: Streams) -> Streams:
        """Put new connections in the place of broken ones."""
        if self.streams is not None:
            self.streams.close()
        self.streams = streams
        return streams

    def restore_from(self, found: Mapping[str, Any]) -> None:
        """Fill in what an earlier server had taken, from its container as the engine describes it."""
        labels = found["Config"].get("Labels") or {}
        self.was_parked = labels.get("light-run.kind") == "parked"
        for mount in found.get("Mounts") or []:
            if mount.get("Type") == "bind":
                # Where it is now, should the state directory have been moved.
                name = Path(mount["Source"]).parent.name
                self.mounted = Workspace(self.staged.folder.with_name(name))
                if self.was_parked:
                    self.parked = self.mounted

    @property
    def workspaces(self) -> Sequence[Workspace]:
        """Every folder to remove."""
        return [self.staged] if self.parked is None else [self.staged, self.parked]


def prepare_image(context: RunnerContext, spec: RunSpec, stop: StopRequest, observer: Observer) -> Image:
    """The image of `spec` with its steps baked in. Raises ImageNotFound, PullFailed, BuildFailed, Cancelled."""
    stop.check_start()
    image = _base_image(context, spec, stop, observer)
    if not spec.steps:
        return image
    # Steps get no GPUs: what they build is for runs with and without.
    limits, runtime = replace(context.limits(spec), gpus=None), context.runtime(spec)
    cached = context.builder.find(image, spec.steps, limits=limits, runtime=runtime, owner=spec.owner)
    if cached is not None:
        return cached
    observer.phase(Phase.BUILDING)
    return context.builder.build(
        image,
        spec.steps,
        limits=limits,
        runtime=runtime,
        owner=spec.owner,
        timeout=spec.step_timeout,
        stop=stop,
        report=observer.progress,
        waiting=observer.waiting,
    )


def _base_image(context: RunnerContext, spec: RunSpec, stop: StopRequest, observer: Observer) -> Image:
    if spec.platform is not None:
        platforms.require(spec.platform, context.engine.description())
    found = None if spec.pull == "always" else context.images.find(spec.image)
    if found is not None and _suits(found, spec):
        return found
    if found is not None and spec.pull == "never":
        raise ImageNotFound(
            f"image {spec.image!r} at the engine is for {found.platform}, not {spec.platform}"
        )
    if spec.pull == "never":
        raise ImageNotFound(
            f'image {spec.image!r} is not at the engine, and "pull" is "never": pull it there first, '
            'or ask for "missing"'
        )
    observer.phase(Phase.PULLING)
    with observer.waiting():
        pulled = context.images.pull(spec.image, spec.owner, stop, observer.progress, spec.registry_auth)
    if not _suits(pulled, spec):
        raise PullFailed(
            f"image {spec.image!r}: the registry has it for {pulled.platform}, not {spec.platform}"
        )
    return pulled


def _suits(image: Image, spec: RunSpec) -> bool:
    return spec.platform is None or image.platform == platforms.normalised(spec.platform)


class Launch:
    """Starts the command of `spec` in a container of `image`."""

    def __init__(
        self,
        context: RunnerContext,
        spec: RunSpec,
        run_id: str,
        *,
        resources: RunResources,
        stop: StopRequest,
        observer: Observer,
    ) -> None:
        self._context = context
        self._engine = context.engine
        self._spec = spec
        self._run_id = run_id
        self._own = resources
        self._stop = stop
        self._observer = observer

    def start(self, image: Image) -> bytes:
        """Start it; what is to be written to the container's stdin. Raises StartFailed, Cancelled, EngineError."""
        self._stop.check_start()
        if container_path("/", self._spec.workdir).split("/")[1] in _KERNEL_FOLDERS:
            raise StartFailed(
                f"workdir {self._spec.workdir!r} belongs to the kernel: files cannot be put there"
            )
        if self._context.config.read_only and not self._spec.workdir.strip("/"):
            raise StartFailed(
                f"workdir {self._spec.workdir!r} is the root file system, which is read-only on this server: "
                "files cannot be put there; use another workdir"
            )
        network = self._context.network(self._spec)
        runtime = self._context.runtime(self._spec)
        placement = self._context.mounts.placement(image.id, self._spec.workdir, runtime)
        script = self._take_parked(image, network, placement)
        if script is None:
            self._start_cold(image, network, placement)
        # A kill before the start found nothing to kill; the execution looks again first of all.
        return (script or b"") + (self._spec.stdin or b"")

    def _take_parked(self, image: Image, network: str, placement: Placement) -> bytes | None:
        command = self._command()
        # A parked container is on one network.
        if self._spec.networks or command is None or not passes_through_shell(_environment_names(image)):
            return None
        spec, own = self._spec, self._own
        if launch_script(command, spec.env, "") is None:
            return None
        key = ParkKey(
            image.id,
            self._context.limits(spec),
            network,
            spec.workdir,
            self._context.runtime(spec),
            spec.user,
        )
        parked = self._context.pool.take(key)
        if parked is None:
            return None
        own.container, own.streams, own.was_parked = parked.container, parked.streams, True
        own.parked = own.mounted = parked.workspace
        own.streams.exit.accounting.begin()
        if parked.workspace is not None:
            own.staged.move_into(parked.workspace)
        else:
            self._put_files(image, parked.container, hosts=self._context.own_hosts(network, placement))
        self._observer.assigned(parked.container, parked=True)
        self._stop.check_start()
        return launch_script(command, spec.env, parked.marker)

    def _start_cold(self, image: Image, network: str, placement: Placement) -> None:
        own, spec = self._own, self._spec
        mounted = own.staged if placement is Placement.BIND else None
        sandbox = Sandbox(
            image=image.id,
            command=self._command(),
            limits=self._context.limits(spec),
            network=network,
            workdir=spec.workdir,
            env=spec.env,
            runtime=self._context.runtime(spec),
            source=str(mounted.files) if mounted else None,
            own_hosts=self._context.mounts.takes_hosts(placement),
            hosts=str(mounted.hosts) if mounted else None,
            volume=placement is Placement.VOLUME,
            user=spec.user,
            labels={**labels("run", self._context.config), "light-run.run": self._run_id},
        )
        try:
            own.container = self._engine.create(container_config(sandbox, self._context.config))
            self._observer.assigned(own.container, parked=False)
            own.mounted = mounted
            if mounted is None:
                self._put_files(image, own.container, hosts=sandbox.has_own_hosts)
            container = own.container
            for name in spec.networks:
                self._engine.connect(self._context.networks.ensure(name), container)
            self._context.networks.start_on(network, lambda: self._listen_and_start(container))
        except EngineRefused as error:
            raise StartFailed(f"image {spec.image!r} cannot be started: {error}") from error

    def _listen_and_start(self, container: str) -> None:
        streams = self._own.reconnect(Streams.before_start(self._engine, container))
        self._stop.check_start()
        self._engine.start(container)
        # At once: a short command has ended in a few milliseconds.
        streams.exit.accounting.open()

    def _put_files(self, image: Image, container: str, *, hosts: bool) -> None:
        workdir = container_path("/", self._spec.workdir)
        # From the top, so that the workdir itself is opened to whatever user the image runs as. A link that is the
        # workdir would be replaced by that.
        opened = workdir != "/" and self._context.mounts.found(image.id, workdir) is not WorkdirContent.LINK
        tar = self._own.staged.tar(workdir.lstrip("/"), opened=opened, hosts=hosts)
        with tar as stream, self._writable(image, container) as target:
            self._engine.put_archive(target, "/", stream)

    @contextlib.contextmanager
    def _writable(self, image: Image, container: str) -> Iterator[str]:
        # The engine refuses files above a volume of a read-only container; it takes them by a container that
        # is not, shares the volume, and is never started.
        if not self._context.config.read_only:
            yield container
            return
        with self._context.leftovers.unstarted(image.id, VolumesFrom=[container]) as porter:
            yield porter

    def _command(self) -> tuple[str, ...] | None:
        return None if self._spec.entrypoint is None else ("sh", "-c", self._spec.entrypoint)


def _environment_names(image: Image) -> list[str]:
    return [entry.partition("=")[0] for entry in image.config.get("Env") or []]
