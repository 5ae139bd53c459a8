"""What runs ask of the engine package, so that both sides can be read, written and tested apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol

from light_run.engine.spec import (
    Destinations,
    File,
    Files,
    Firewall,
    MaintenanceReport,
    NetworkSpec,
    Observer,
    RunResult,
    RunSpec,
)
from light_run.engine.stdin import StdinFeed
from light_run.engine.stop import StopRequest


class LinePort(Protocol):
    """One line of a run's output."""

    @property
    def seq(self) -> int:
        """Its number, from 0 over both streams."""

    @property
    def time(self) -> int:
        """When its end came, in milliseconds since the epoch."""

    @property
    def stream(self) -> str:
        """``stdout`` or ``stderr``."""

    @property
    def text(self) -> str:
        """The line without its newline."""


class HealthPort(Protocol):
    """What the engine is like now."""

    @property
    def docker(self) -> bool:
        """True where the engine answers."""

    @property
    def engine(self) -> str:
        """What the engine calls itself."""

    @property
    def address(self) -> str:
        """The URL at which the engine is asked."""

    @property
    def missing_limits(self) -> tuple[str, ...]:
        """What the engine cannot hold runs to, for which none is started."""

    @property
    def firewall(self) -> Firewall | None:
        """Whether runs on the default network are kept from its host; None where it does not answer."""

    @property
    def disk_guards(self) -> tuple[str, ...]:
        """What keeps runs from filling the disk; see `DiskWatch.guards`."""

    @property
    def workspace(self) -> str | None:
        """How files get to it; None until that is known."""

    @property
    def runtimes(self) -> tuple[str, ...]:
        """What it runs containers with."""


class ContainerPort(Protocol):
    """A container that bears this server's id."""

    @property
    def container(self) -> str:
        """Its id."""

    @property
    def kind(self) -> str:
        """What it was made for; ``run`` for one run alone."""

    @property
    def run_id(self) -> str:
        """That run; empty for another kind."""


class IntakePort(Protocol):
    """Takes the files of a run to come, one by one. All raise InvalidSpec, PayloadTooLarge, OSError.

    `files` counts them; `check` is called again and again, and what it raises ends the intake. A fault's
    path is `source` and the file's.
    """

    files: int
    check: Callable[[], None]

    def add_file(self, path: str, chunks: Iterable[bytes], mode: int = 0, source: str = "files") -> None:
        """Write a file at `path`, relative to the workdir; `mode` is beyond everybody's to read and write."""

    def add_directory(self, path: str, source: str = "files") -> None:
        """Make a folder and those above it; one that is there is fine."""

    def copy_file(self, first: str, path: str, source: str = "files") -> bool:
        """Write a file at `path` as the one at `first` is; False where none has come."""

    def write(self, files: Mapping[str, File | bytes | str]) -> None:
        """Write `files`, path → content."""

    def spool(self) -> IO[bytes]:
        """An empty file without a name, on the disk that the files are on."""


class NetworksPort(Protocol):
    """Networks of the engine that clients create."""

    def create(self, spec: NetworkSpec, *, exclusive: bool = False) -> None:
        """Create a network. Raises `NetworkError`, InvalidSpec, EngineError."""

    def exists(self, name: str) -> bool:
        """Return True if the engine has a network of that name. Raises EngineError."""

    def owns(self, name: str, owner: str) -> bool:
        """Return True if `owner` has created the network `name` here. Raises EngineError."""

    def delete(self, name: str, owner: str | None, in_use: Callable[[], Collection[str]] = frozenset) -> None:
        """Delete a network of `owner` (None: anybody) that is not `in_use`.

        Raises `NetworkError`, InvalidSpec, EngineError.
        """

    def clean_up(
        self,
        prefix: str,
        max_age: float,
        owner: str | None,
        in_use: Callable[[], Collection[str]] = frozenset,
    ) -> int:
        """Delete networks older than `max_age` seconds that are not `in_use`; returns how many. Raises EngineError."""


class RunnerPort(Protocol):
    """Runs containers, and takes up what an earlier server with the same id left.

    What becomes of a run is data in its result, never an exception.
    """

    @property
    def networks(self) -> NetworksPort:
        """The networks that clients create."""

    def stage(self, run_id: str, files: Files) -> object:
        """Write `files` where `run` will find them. Raises OSError, and leaves nothing behind then."""

    def receive(self, run_id: str) -> IntakePort:
        """Take files one by one, in place of `stage`. Raises OSError."""

    def discard(self, run_id: str) -> None:
        """Remove what was staged for a run that will never begin; nothing staged is fine."""

    def run(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        stop: StopRequest | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
        feed: StdinFeed | None = None,
    ) -> RunResult:
        """Run `spec` to its end and clean up; staged files are used where `spec.files` is empty.

        `feed` is the standard input of an interactive run behind `spec.stdin`.

        `observer.ended` gets the result while the container is still to be removed. `stop` ends the run, or detaches
        it: then this returns soon, from whatever step, without `observer.ended`, and what it returns counts for
        nothing. Container, workspace and log of a launched command stay for `adopt`; a launch that has begun is
        either completed, `Observer.launched` included, or not begun. The staged files of any other run stay.
        """

    def staged(self, run_id: str) -> bool:
        """True where `run_id`'s files are as `stage` wrote them."""

    def adopt(
        self,
        container: str,
        spec: RunSpec,
        *,
        run_id: str,
        deadline: datetime,
        log: Path,
        artifacts: Path,
        stop: StopRequest | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """Take up a run that an earlier server launched in `container`, to its end and clean-up.

        Its log in `log` goes on where it broke off; `deadline` (UTC) is as it was. A container that is gone
        ends the run as ``interrupted``. The engine answered a moment ago; where it goes away again, the
        run waits for it.
        """

    def begun(self, container: str) -> datetime | None:
        """When the command that `container` was made for was started (UTC); None where that is not certain.

        Raises EngineError where the engine does not answer.
        """

    def pause(self, container: str) -> None:
        """Freeze a container. Raises EngineError."""

    def resume(self, container: str) -> None:
        """Let a paused container go on. Raises EngineError."""

    def unassign(self, container: str, run_id: str) -> bool:
        """Undo what an earlier server did for `run_id` up to `Observer.assigned`: nothing of it was launched.

        Removes `container` (one that is gone is fine) and has the run's files again as `stage` wrote them:
        those moved to a parked container's workspace come back. False where they are lost. Raises
        EngineError where the engine does not answer; a later call does the rest.
        """

    def find(self) -> Sequence[ContainerPort]:
        """The containers of this server's id. Raises EngineError."""

    def clear(self, keep: Collection[str]) -> MaintenanceReport:
        """Remove everything of this server's id that nobody owns, before anything runs. Raises EngineError.

        Returns what was removed.

        `keep` is asked, once the engine has said what there is, for the ids of runs and of containers.
        Files that a run in `keep` had moved to a parked container's workspace come back before that goes,
        unless `keep` has the container too.
        """

    def maintain(
        self,
        keep: Collection[str] | None = None,
        *,
        keep_networks: Callable[[], Collection[str]] = frozenset,
        stopping: Callable[[], bool] = lambda: False,
    ) -> MaintenanceReport:
        """Remove unused step images and networks, but for `keep_networks`.

        With `keep`, the ids of runs that are needed, workspaces of all others are removed, too. `stopping` is asked
        on the way. Parts that fail are named in the report.
        """

    @property
    def parked(self) -> int:
        """How many containers are parked."""

    def health(self) -> HealthPort:
        """The engine's state, quickly, without raising."""

    def open(self) -> None:
        """Start what runs beside the runs; called after `clear`."""

    def close(self) -> None:
        """Stop and remove it."""
