"""Reservations: a place for a run while it is being accepted."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from light_run.errors import InsufficientStorage
from light_run.runs.ports import IntakePort, RunnerPort

_log = logging.getLogger(__name__)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


class Reservation:
    """A place for a run to come. `run_id` will be its id; `taken` is True once it was accepted.

    `check` raises once the place is worth nothing any more.
    """

    def __init__(self, run_id: str, runner: RunnerPort, check: Callable[[], None]) -> None:
        self.run_id = run_id
        self.taken = False
        self._runner = runner
        self._check = check

    def intake(self) -> IntakePort:
        """Return the intake for the run's files. Raises OSError."""
        intake = self._runner.receive(self.run_id)
        intake.check = self._check
        return intake


@contextmanager
def full_disk_refused(run_id: str) -> Iterator[None]:
    """Turn the OSError of a full disk into `InsufficientStorage`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _log.warning("run not accepted: no room", extra={"run": run_id, "error": str(error)})
        raise InsufficientStorage("the files cannot be written: the state directory is full") from error
