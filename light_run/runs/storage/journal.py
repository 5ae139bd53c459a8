"""The journal: all runs on disk, so that an accepted run survives the server.

A row takes a run's steps, each committed before anybody outside can see its effect::

    queued ──► assigned ──► launched ──► ended ──► finished

`light_run.runs.storage.sqlite` keeps it in a file, `light_run.runs.storage.postgres` in a database.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from light_run.engine.spec import RunSpec
from light_run.runs.callbacks.delivery import Recipient
from light_run.runs.model import CallbackState, RunRecord
from light_run.runs.storage.entries import IdempotencyKey, JournalEntry

# Seconds that an Idempotency-Key stands for its run.
KEEP_KEYS = 86_400.0


class Journal(Protocol):
    """Where runs are recorded. All methods are thread-safe.

    Recording a step raises nothing: a write that fails is logged, and retried in order once the journal can be written
    again. What reads raises `Overloaded` while the journal cannot be reached. A row that cannot be read is set apart;
    `quarantined` has the ids of such runs and of their containers. If `incomplete`, runs may be unknown.
    """

    @property
    def quarantined(self) -> frozenset[str]:
        """The ids of runs whose rows cannot be read, and of their containers."""

    @property
    def incomplete(self) -> bool:
        """True if runs may be unknown, as a damaged journal was set aside."""

    def load(self) -> list[JournalEntry]:
        """Return the entries of an earlier server in the order of acceptance; a second call returns none."""

    def accept(
        self, run: RunRecord, spec: RunSpec, recipient: Recipient | None, key: IdempotencyKey | None
    ) -> None:
        """Record a run whose files are staged.

        Raises `InsufficientStorage`, or `Overloaded` while the journal cannot be reached, and records nothing then.
        """

    def assigned(self, run: RunRecord, container: str) -> None:
        """Record that the run has its container, in which its command was not started yet."""

    def launched(self, run_id: str, deadline: datetime) -> None:
        """Record that the command was started, and is killed at `deadline` (UTC)."""

    def requeued(self, run: RunRecord) -> None:
        """Record that the run's container was removed before its command was started."""

    def paused(self, run: RunRecord) -> None:
        """Record that the run is paused since `run.paused_at`."""

    def resumed(self, run: RunRecord, seconds: float) -> None:
        """Record that the run goes on after a pause of `seconds`, which extends its deadline."""

    def cancelling(self, run: RunRecord) -> None:
        """Record that the run, which has not ended, is to be cancelled."""

    def ended(self, run: RunRecord, since: float) -> None:
        """Record that the run ended at `since`, and delete its spec."""

    def evicted(self, run: RunRecord) -> None:
        """Record that the artifacts of the run, which has ended, are removed."""

    def finished(self, run_id: str) -> None:
        """Record that the run's container and workspace are removed; written together with the next transaction."""

    def callback(self, run_id: str, state: CallbackState, since: float | None = None) -> None:
        """Record the state of the run's callback; `since` restarts its schedule."""

    def hide(self, run_id: str) -> None:
        """Keep the run for its callback only; its Idempotency-Keys are free again."""

    def drop(self, run_id: str) -> None:
        """Delete the run."""

    def spec(self, run_id: str) -> RunSpec:
        """Return the spec of a run that has not ended. Raises `JournalError`."""

    def recipient(self, run_id: str) -> Recipient | None:
        """Return the recipient of the run's callback, or None."""

    def key(self, owner: str, key: str, now: float) -> IdempotencyKey | None:
        """Return the entry of an Idempotency-Key that is less than a day old, or None."""

    def step(self, now: float) -> None:
        """Retry failed writes, delete expired keys, and free the room of deleted rows."""

    def close(self) -> None:
        """Write what is pending, and close the connection."""
