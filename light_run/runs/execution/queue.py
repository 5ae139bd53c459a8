"""The queue: where an accepted run waits for a slot.

`light_run.runs.execution.executor` keeps it in memory, with slots in the same process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar


class Job(Protocol):
    """A job of the queue: one run."""

    @property
    def run_id(self) -> str:
        """The id of the job's run."""

    @property
    def owner(self) -> str | None:
        """The token that the run belongs to; None is the operator."""

    def begin(self) -> None:
        """Called when the job gets its slot; `work` follows. Never raises."""

    def work(self) -> None:
        """Do the work; the slot is free when this returns."""


J = TypeVar("J", bound=Job)


class JobQueue(Protocol[J]):
    """Gives each job a slot: in the order in which they come for each token, and fair between tokens.

    All methods are thread-safe.
    """

    def reserve(self, owner: str | None = None) -> None:
        """Reserve a place for a job of `owner`; `submit` or `release` must follow. Raises `Overloaded`."""

    def check(self) -> None:
        """Raise `Overloaded` if the queue is stopped."""

    def release(self, owner: str | None = None) -> None:
        """Release a reserved place."""

    def submit(self, job: J) -> bool:
        """Submit `job` to its reserved place. Returns True if it got a slot at once, False if it was queued.

        Raises `Overloaded` where the queue was stopped meanwhile; the place is given back then too.
        """

    def preload(self, job: J, *, at_work: bool = False) -> None:
        """Queue a job regardless of the limit; one `at_work` gets an extra slot at `start`, if need be."""

    def start(self) -> None:
        """Start the preloaded jobs."""

    def withdraw(self, run_id: str) -> J | None:
        """Remove a job from the queue and return it, or None if it does not wait there."""

    def counts(self) -> tuple[int, int]:
        """Return the number of jobs at work and the number that wait."""

    def without_slot(self, job: J, is_over: Callable[[], bool]) -> AbstractContextManager[None]:
        """Give the slot of `job`, which is at work, to others while the block runs, and wait for one after it.

        If the block raises, or `is_over` returns True, the job has its slot back at once, to clean up.
        """

    def stop(self) -> list[J]:
        """Stop starting jobs; returns those that waited."""

    def close(self) -> None:
        """Stop, and wait for the jobs at work to end."""
