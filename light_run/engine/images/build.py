"""`run` steps: each executed in a hardened container and committed, as a Dockerfile's RUN would be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from light_run.engine.config import RunnerConfig
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.execution import Execution, Exit, Streams
from light_run.engine.images.single_flight import OutOfTime, Report, SingleFlight, Waiting
from light_run.engine.images.store import Image, Images, step_keys
from light_run.engine.images.volumes import Volumes
from light_run.engine.output.tail import Tail
from light_run.engine.references import BASE_LABEL, BASE_SIZE_LABEL, STEP_LABEL, STEP_REPOSITORY
from light_run.engine.sandbox.disk import DiskWatch
from light_run.engine.sandbox.networks import Networks
from light_run.engine.sandbox.options import Sandbox, container_config, labels
from light_run.engine.spec import Limits, Progress, Reason
from light_run.engine.stop import StopRequest
from light_run.engine.upkeep.leftovers import Leftover, Leftovers
from light_run.errors import BuildFailed, Cancelled, EngineRefused

# How much of a failed step's output its error has.
_LAST_LINES, _LAST_BYTES = 10, 8192
# A container that is killed is gone in well under so many seconds.
_CLOSE = 15.0


class _Abandoned(Cancelled):
    # Nobody waits for the step any more; it had written `last_lines`.
    def __init__(self, last_lines: list[str]) -> None:
        super().__init__("the build was given up")
        self.last_lines = last_lines


class Builder:
    """Bakes steps into cached images ``light-run-cache:<key>``; the same key is built once at a time."""

    def __init__(
        self,
        engine: Engine,
        images: Images,
        networks: Networks,
        *,
        disk: DiskWatch,
        leftovers: Leftovers,
        config: RunnerConfig,
    ) -> None:
        self._engine = engine
        self._images = images
        self._networks = networks
        self._disk = disk
        self._leftovers = leftovers
        self._config = config
        self._volumes = Volumes(engine)
        self._builds: SingleFlight[Image] = SingleFlight("build")

    def close(self) -> None:
        """Wait for steps that were given up to remove their containers."""
        self._builds.close(_CLOSE)

    def find(
        self, base: Image, steps: tuple[str, ...], *, limits: Limits, runtime: str | None, owner: str
    ) -> Image | None:
        """The cached image of all `steps` on `base`, as `owner` has had them built."""
        return self._images.find_steps(self._keys(base, steps, limits, runtime, owner)[-1])

    def _keys(
        self, base: Image, steps: tuple[str, ...], limits: Limits, runtime: str | None, owner: str
    ) -> list[str]:
        # A step that fails inside and goes on has another result under other limits; and whoever else asks for the
        # same steps must not get what another owner's have fetched.
        config = self._config
        fixed = (
            repr(limits),
            runtime,
            config.user,
            sorted(config.cap_drop),
            config.network,
            config.server_id,
        )
        return step_keys(base.id, steps, [owner, *map(repr, fixed)])

    def build(
        self,
        base: Image,
        steps: tuple[str, ...],
        *,
        limits: Limits,
        runtime: str | None,
        owner: str,
        timeout: float | None = None,
        stop: StopRequest,
        report: Report,
        waiting: Waiting = nullcontext,
    ) -> Image:
        """The image of `steps` on `base`, from the longest prefix there is. Raises BuildFailed, Cancelled.

        All of them together get `timeout` seconds, and no more than the runner's own; waiting for somebody else's
        build of the same counts, and is enclosed in `waiting`.
        """
        most = self._config.step_timeout
        timeout = most if timeout is None else min(timeout, most)
        deadline = time.monotonic() + timeout
        keys = self._keys(base, steps, limits, runtime, owner)
        image = base
        first = 0
        for index in range(len(steps), 0, -1):
            found = self._images.find_steps(keys[index - 1])
            if found is not None:
                image, first = found, index
                break
        for index in range(first, len(steps)):
            report(Progress(steps=len(steps), done=index))
            step = _BuildStep(base=base, image=image, number=index + 1, command=steps[index], tag=keys[index])
            work = self._work(step, limits, runtime)
            try:
                image = self._builds.run(
                    keys[index], work, stop, lambda _: None, deadline=deadline, waiting=waiting
                )
            except OutOfTime as out:
                lines = out.error.last_lines if isinstance(out.error, _Abandoned) else []
                raise BuildFailed(step.timed_out(timeout, lines)) from None
        return image

    def _work(
        self, step: _BuildStep, limits: Limits, runtime: str | None
    ) -> Callable[[StopRequest, Report], Image]:
        def work(abandoned: StopRequest, _report: Report) -> Image:
            # Another flight may have landed between our look at the cache and this take-off.
            found = self._images.find_steps(step.tag)
            return found or self._bake(step, limits, runtime, abandoned)

        return work

    def _bake(self, step: _BuildStep, limits: Limits, runtime: str | None, stop: StopRequest) -> Image:
        sandbox = Sandbox(
            image=step.image.id,
            command=step.waiting_command if step.volumes else ("sh", "-c", step.command),
            limits=limits,
            network=self._networks.ensure(None),
            workdir=step.base.config.get("WorkingDir") or "/",
            runtime=runtime,
            labels=labels("build", self._config),
        )
        config = container_config(sandbox, self._config)
        # What a read-only step writes could not be kept.
        config["HostConfig"]["ReadonlyRootfs"] = False
        try:
            container = self._engine.create(config)
        except EngineRefused as error:
            raise BuildFailed(
                f"step {step.number} ({step.command!r}) was refused by the engine: {error}"
            ) from error
        try:
            start = partial(self._listen_and_start, container, stop)
            streams = self._networks.start_on(sandbox.network, start)
            with contextlib.closing(streams):
                self._execute(step, container, streams, stop)
            self._engine.commit(
                container, STEP_REPOSITORY, step.tag, step.image_config(self._config.server_id)
            )
        except EngineRefused as error:
            raise BuildFailed(f"step {step.number} ({step.command!r}) failed: {error}") from error
        finally:
            self._leftovers.remove(Leftover(container, ()))
        built = self._images.find_steps(step.tag)
        if built is None:
            raise BuildFailed(f"the image of step {step.number} was removed")
        return built

    def _listen_and_start(self, container: str, stop: StopRequest) -> Streams:
        streams = Streams.before_start(self._engine, container)
        try:
            stop.check_start()
            self._engine.start(container)
        except BaseException:
            streams.close()
            raise
        return streams

    def _execute(self, step: _BuildStep, container: str, streams: Streams, stop: StopRequest) -> None:
        tail = Tail(_LAST_BYTES)
        # Whoever waits for it gives up by a deadline of their own; others may have come later.
        deadline = time.monotonic() + self._config.step_timeout
        # Its own: a step that fills the disk is no reason to give up what others wait for.
        own = StopRequest()
        execution = Execution(self._engine, container, streams, log=tail, deadline=deadline, stop=own)
        with stop.subscribed(own.request), self._disk.watching(container, None, own):
            before = self._volumes.checksums(container, step.volumes, stop.check)
            ended = execution.run(b"\n" if step.volumes else b"")
        lines = tail.lines()[-_LAST_LINES:]
        if ended.killed is Reason.CANCELLED:
            raise _Abandoned(lines)
        if ended.killed is Reason.TIMEOUT:
            raise BuildFailed(step.timed_out(self._config.step_timeout, lines))
        if ended.code or ended.killed:
            raise BuildFailed(step.failure(ended, lines))
        after = self._volumes.checksums(container, step.volumes, stop.check)
        if changed := [path for path in step.volumes if before[path] != after[path]]:
            raise BuildFailed(step.lost_volumes(changed))


class _BuildStep:
    # One step: the image it runs on, the base whose configuration the result keeps, the tag it gets.

    def __init__(self, *, base: Image, image: Image, number: int, command: str, tag: str) -> None:
        self.base = base
        self.image = image
        self.number = number
        self.command = command
        self.tag = tag

    @property
    def volumes(self) -> list[str]:
        """Where the step's container has a volume, since the base says so: no image gets what is written there."""
        return sorted(self.base.config.get("Volumes") or ())

    @property
    def waiting_command(self) -> tuple[str, ...]:
        """The step behind a line of input, so that its volumes can be looked at in between.

        Not every engine has filled them before the container is started.
        """
        return ("sh", "-c", 'read -r _; exec sh -c "$1"', "sh", self.command)

    def image_config(self, server_id: str) -> dict[str, Any]:
        base = self.base.config
        return {
            # Empty lists, not absent ones: the engine would fill those in from the step's own command.
            "Entrypoint": base.get("Entrypoint") or [],
            "Cmd": base.get("Cmd") or [],
            "Env": base.get("Env") or [],
            "User": base.get("User") or "",
            "WorkingDir": base.get("WorkingDir") or "",
            "Volumes": base.get("Volumes"),
            "ExposedPorts": base.get("ExposedPorts"),
            "Healthcheck": base.get("Healthcheck"),
            "StopSignal": base.get("StopSignal") or "",
            # The step's container is labelled as ours; what someone else starts from this image is not.
            "Labels": {
                **(base.get("Labels") or {}),
                "light-run.server": "",
                "light-run.session": "",
                "light-run.kind": "",
                STEP_LABEL: server_id,
                BASE_LABEL: self.image.id,
                BASE_SIZE_LABEL: str(self.image.size),
            },
        }

    def failure(self, ended: Exit, last_lines: list[str]) -> str:
        filled = ended.killed is Reason.DISK_LIMIT
        return self._message("filled the disk" if filled else f"exited with {ended.code}", last_lines)

    def timed_out(self, timeout: float, last_lines: list[str]) -> str:
        return self._message(f"did not end within the stepTimeout of {timeout:g} s for all steps", last_lines)

    def lost_volumes(self, volumes: list[str]) -> str:
        return (
            f"step {self.number} ({self.command!r}) changed files in {', '.join(map(repr, volumes))}: a volume of the "
            "base image, and what steps write there is not kept; write somewhere else, or do this in the entrypoint"
        )

    def _message(self, how: str, last_lines: list[str]) -> str:
        tail = ":\n" + "\n".join(last_lines) if last_lines else ""
        return f"step {self.number} ({self.command!r}) {how}{tail}"
