"""What a run is asked to be (`RunSpec`) and what became of it (`RunResult`)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from light_run.errors import Fault, InvalidSpec
from light_run.system.sizes import bytes_of

MIB = 1024 * 1024
# Files and folders of a request. Writing more takes longer than clients wait, even if they are empty.
MOST_FILES = 100_000

Gpus = int | Literal["all"]


class RawPiece(NamedTuple):
    """Bytes that came together; `stream` is 1 for stdout and 2 for stderr."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one container may use: `memory` in bytes, `cpus` in cores, `pids` in processes and threads.

    `shm` is the size of ``/dev/shm`` in bytes, `nofile` the open files of a process, `fsize` the size of a single file
    in bytes; None is the engine's own limit. `gpus` is a number of GPUs, ``"all"``, or None for no GPU.
    """

    memory: int = 512 * MIB
    cpus: float = 1.0
    pids: int = 100
    shm: int | None = None
    nofile: int | None = None
    fsize: int | None = None
    gpus: Gpus | None = None

    @classmethod
    def of(cls, **limits: float | str | None) -> Limits:
        """Return limits with sizes as people write them: ``Limits.of(memory="512m", cpus="1.5", shm="64m")``.

        Raises InvalidSpec for a limit that does not exist, and for text that is no size.
        """
        return cls(**{name: _limit(name, value) for name, value in limits.items()})


def _limit(name: str, value: float | str | None) -> Any:
    if name not in Limits.__dataclass_fields__:
        known = ", ".join(Limits.__dataclass_fields__)
        raise InvalidSpec(
            [Fault(("limits", name), "unknown_field", f"there is no limit {name}; there are {known}")]
        )
    if not isinstance(value, str) or (name, value) == ("gpus", "all"):
        return value
    found = bytes_of(value) if name in ("memory", "shm", "fsize") else _number(value, whole=name != "cpus")
    if found is None:
        right = (
            f'{name} is {value!r}; it must be a number, or a size such as "512m" for memory, shm and fsize'
        )
        raise InvalidSpec([Fault(("limits", name), "invalid_value", right)])
    return found


def _number(text: str, *, whole: bool) -> float | None:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class File:
    """A file to put into the workdir: its bytes, and permission bits beyond those that all get to read and write."""

    content: bytes
    mode: int = 0o666


Files = Mapping[str, File | bytes | str] | Path

Pull = Literal["missing", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAuth:
    """What a registry asks for before it gives an image: `username` and `password`, or an identity `token`.

    Empty in all three, it stands for one that was not kept over a restart of the server. Its repr shows none of them.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def lost(self) -> bool:
        """True if there is nothing left of it."""
        return not (self.username or self.password or self.token)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One run.

    `files` maps paths relative to `workdir` to their content, or is a folder to copy.
    `entrypoint` is executed as ``sh -c``;
    None keeps the image's own entrypoint and command. `steps` are baked into a cached image first.
    `stdin` is what the process reads before end-of-file; None is end-of-file at once. `timeout` is in
    seconds from the container's start, `step_timeout` for all steps together; None is the runner's own, which is also
    the most. `network` None is the isolated bridge, else ``none``, ``bridge``
    or an existing network's name; `networks` are further ones that the container is connected to.
    `extract` lists container paths, absolute or relative to `workdir`, or
    patterns of such (`globs`). `limits` and `runtime` None are the runner's own. `pull` says when the
    registry is asked for the image: where the engine lacks it (``missing``), for each run (``always``), or
    ``never``. `owner` is the tenant, empty for the operator: cached steps are
    shared between the runs of one owner, and a tenant pulls from public registries alone. `user` is the command's:
    a name of the image's, ``uid`` or ``uid:gid``; None is the runner's, or else the image's own.
    `registry_auth` is for this run's pull alone, in place of what the docker configuration has. With `interactive`,
    the input does not end behind `stdin`, but when its `StdinFeed` is closed. `platform` is what the image has to
    be for, such as ``linux/amd64``; None takes what the engine has or pulls.
    """

    image: str
    files: Files = field(default_factory=dict)
    entrypoint: str | None = None
    steps: tuple[str, ...] = ()
    stdin: bytes | None = None
    timeout: float = 1200.0
    step_timeout: float | None = None
    network: str | None = None
    workdir: str = "/app"
    env: Mapping[str, str] = field(default_factory=dict)
    extract: tuple[str, ...] = ()
    limits: Limits | None = None
    runtime: str | None = None
    pull: Pull = "missing"
    owner: str = ""
    networks: tuple[str, ...] = ()
    user: str | None = None
    registry_auth: RegistryAuth | None = field(default=None, repr=False)
    interactive: bool = False
    platform: str | None = None


class Firewall(str, Enum):
    """Whether rules keep runs on a network from the host and from metadata addresses."""

    ACTIVE = "active"
    ABSENT = "absent"
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSpec:
    """A network to create.

    Containers on it reach each other if `icc`. `ipam` has ``Subnet``, ``Gateway`` and ``IPRange``, all optional, as the
    engine's API names them. `owner` is the tenant, empty for the operator.
    """

    name: str
    icc: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    ipam: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""


class Reason(str, Enum):
    """Why a run ended, in the words of the HTTP contract."""

    EXIT = "exit"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    IMAGE_NOT_FOUND = "image_not_found"
    PULL_FAILED = "pull_failed"
    BUILD_FAILED = "build_failed"
    START_FAILED = "start_failed"
    ENGINE_UNAVAILABLE = "engine_unavailable"
    INTERRUPTED = "interrupted"
    DISK_LIMIT = "disk_limit"

    __str__ = str.__str__


class Phase(str, Enum):
    """What a run that has not ended is doing."""

    PULLING = "pulling"
    BUILDING = "building"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    EXTRACTING = "extracting"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pull or a build is: `done` of so many `layers`, or of so many `steps`.

    Of the layers whose size the engine has said so far, `current_bytes` of `total_bytes` have been
    downloaded.
    """

    done: int
    layers: int | None = None
    steps: int | None = None
    current_bytes: int = 0
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RunArtifact:
    """A file or directory that came out; `path` is relative to the artifact folder, `bytes` 0 for a directory."""

    path: str
    bytes: int
    type: str


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What became of one `extract` entry: `status` is ``ok``, ``missing`` or ``error``."""

    path: str
    status: str
    bytes: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimings:
    """Milliseconds each step of a run took."""

    image: float = 0.0
    start: float = 0.0
    run: float = 0.0
    extract: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUsage:
    """What a run has used, as far as the engine and the kernel say so; None is unknown.

    `cpu_ms` is CPU time in milliseconds, `memory_peak_bytes` the most memory at any moment, with cached files.
    `oom_kills` processes, at least, were killed at the memory limit. `disk_bytes`, at least, were taken on the disk.
    """

    cpu_ms: int | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    disk_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended.

    `exit_code` is None where no container ran to an end. `signal` is the name of the one that killed the command, as
    the exit code says. `error` is one sentence where the run did not
    simply exit by itself with 0. `started_at` (UTC) is when the container started, None where none did;
    `duration` is in seconds. `logs` are the lines of stdout and stderr as they came, at most the runner's
    cap; empty where the caller gave a log file of its own.
    """

    reason: Reason
    exit_code: int | None = None
    error: str | None = None
    started_at: datetime | None = None
    duration: float = 0.0
    artifacts: tuple[RunArtifact, ...] = ()
    extracted: tuple[ExtractResult, ...] = ()
    timings: RunTimings = field(default_factory=RunTimings)
    usage: RunUsage = field(default_factory=RunUsage)
    logs: tuple[str, ...] = ()
    logs_truncated: bool = False
    parked: bool = False
    signal: str | None = None

    @property
    def succeeded(self) -> bool:
        """True for exit code 0 within the time."""
        return self.reason is Reason.EXIT and self.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceReport:
    """How much was removed that nobody used any more.

    `step_images` are cached images of steps, `unnamed_images` those of them that had lost their name, `freed_bytes`
    their size without what they were built on. `failed` names the parts that could not be done: ``containers``,
    ``workspaces``, ``images``, ``networks``.
    """

    containers: int = 0
    workspaces: int = 0
    step_images: int = 0
    unnamed_images: int = 0
    freed_bytes: int = 0
    networks: int = 0
    failed: tuple[str, ...] = ()


class Observer(Protocol):
    """Told of a run's progress, in the run's own thread; each call returns before the run goes on."""

    def phase(self, phase: Phase) -> None:
        """The run has entered `phase`."""

    def progress(self, progress: Progress) -> None:
        """An image is being pulled or built, and is so far; told a few times a second at most."""

    def assigned(self, container_id: str, *, parked: bool) -> None:
        """The run has its container; nothing of the run's own has been started in it."""

    def launched(self, started_at: datetime) -> None:
        """The command has certainly been started and its input delivered."""

    def waiting(self) -> AbstractContextManager[None]:
        """Enclose a time in which the run only waits, for a pull or for another run's build."""

    def wrote(self) -> None:
        """There is more in the run's log; called for each piece of output, so it must be quick."""

    def ended(self, result: RunResult) -> None:
        """The result is ready and the artifacts are in place; the container is still to be removed."""


class NullObserver:
    """An observer that wants to know nothing."""

    def phase(self, phase: Phase) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def assigned(self, container_id: str, *, parked: bool) -> None: ...

    def launched(self, started_at: datetime) -> None: ...

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wrote(self) -> None: ...

    def ended(self, result: RunResult) -> None: ...


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where a run's output goes: `log` is a spool file for `read_log`, `artifacts` a folder to fill.

    Without `log`, the lines come as `RunResult.logs`; without `artifacts`, nothing can be extracted.
    """

    log: Path | None = None
    artifacts: Path | None = None


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether an engine answers (`docker`), how files get there (None until known), its runtimes, its own name.

    `missing_limits` is what it cannot hold runs to, for which none is started. `firewall` is of the network that runs
    get by default, None where the engine does not answer. `address` is where the engine is asked, as a URL.
    `disk_guards` are what keeps runs from filling the disk, as `DiskWatch.guards` names them.
    """

    docker: bool
    workspace: str | None
    runtimes: tuple[str, ...] = ()
    engine: str = ""
    missing_limits: tuple[str, ...] = ()
    firewall: Firewall | None = None
    address: str = ""
    disk_guards: tuple[str, ...] = ()
