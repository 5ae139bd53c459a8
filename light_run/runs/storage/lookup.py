"""How runs are looked up: in the memory of the one server, or in the database that several servers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from light_run.runs.model import RunRecord, Status


class RunLookup(Protocol):
    """The runs that were accepted and not deleted. All methods are thread-safe.

    They raise `Overloaded` while the database cannot be reached.
    """

    def get(self, run_id: str) -> RunRecord:
        """Return the current record of a run. Raises `RunNotFound`."""

    def wait(
        self, run_id: str, timeout: float | None = None, is_gone: Callable[[], bool] | None = None
    ) -> RunRecord:
        """Wait up to `timeout` seconds for the end of a run and return its record. Raises `RunNotFound`.

        Whether whoever waits `is_gone` is asked once a second.
        """

    def list(
        self,
        *,
        status: Status | None = None,
        limit: int = 1000,
        before: str | None = None,
        owner: str | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[RunRecord], bool]:
        """At most `limit` runs, newest first, and whether more follow.

        Only those with `status`, of `owner`, with all of `labels`, and accepted before the run `before`. Raises
        `RunNotFound` where `before` is no run.
        """

    def active(self) -> frozenset[str]:
        """Return the ids of runs that have not ended."""

    def active_of(self, owner: str | None) -> frozenset[str]:
        """Return the ids of runs of `owner` that have not ended."""
