"""What is worth counting of runs: told as it happens, and levels to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from light_run.runs.model import Delivery, RunRecord


class RunMetrics(Protocol):
    """Counts what happens. Each call is quick and raises nothing."""

    def ended(self, run: RunRecord) -> None:
        """`run` has ended, in whatever way."""

    def refused(self) -> None:
        """A request found no room in the queue."""

    def callback_tried(self, state: Delivery) -> None:
        """A callback was sent; `state` is what became of it, ``pending`` where it is to be sent again."""

    def evicted(self) -> None:
        """A run's artifacts went to make room."""


class NoMetrics:
    """A tally that nobody reads."""

    def ended(self, run: RunRecord) -> None: ...

    def refused(self) -> None: ...

    def callback_tried(self, state: Delivery) -> None: ...

    def evicted(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """How much there is of everything at one moment: runs, containers, callbacks, bytes.

    `kept` are runs that have ended and are not forgotten; `engine` is True where the engine answers.
    """

    queued: int
    at_work: int
    kept: int
    parked: int
    callbacks: int
    artifact_bytes: int
    engine: bool
