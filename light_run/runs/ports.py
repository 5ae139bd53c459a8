"""What runs ask of the engine package, so that both sides can be read, written and tested apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from light_run.engine.cancel import CancelToken
from light_run.engine.spec import Destinations, Files, Observer, RunResult, RunSpec


class LogLine(Protocol):
    """One line of a run's output."""

    @property
    def text(self) -> str:
        """The line without its newline."""


class ReadLog(Protocol):
    """Reads a spool that a run wrote."""

    def __call__(self, path: Path, *, ended: bool) -> Iterator[LogLine]:
        """The lines at `path`, none where there is no file; an unfinished last one only where `ended`."""


class Health(Protocol):
    """What the engine is like now."""

    @property
    def docker(self) -> bool:
        """True where the engine answers."""


class Runner(Protocol):
    """Runs containers; no call raises for what becomes of a run."""

    def stage(self, run_id: str, files: Files) -> object:
        """Write `files` where `run` will find them. Raises OSError, and leaves nothing behind then."""

    def discard(self, run_id: str) -> None:
        """Remove what was staged for a run that will never begin; nothing staged is fine."""

    def run(
        self,
        spec: RunSpec,
        *,
        run_id: str | None = None,
        cancel: CancelToken | None = None,
        to: Destinations | None = None,
        observer: Observer | None = None,
    ) -> RunResult:
        """Run `spec` to its end and clean up; staged files are used where `spec.files` is empty.

        `observer.ended` is told the result while the container is still to be removed.
        """

    def health(self) -> Health:
        """The engine's state, quickly, without raising."""

    def start(self) -> None:
        """Start what runs beside the runs."""

    def close(self) -> None:
        """Stop and remove it."""
