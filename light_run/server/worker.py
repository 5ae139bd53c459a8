"""Living in gunicorn's worker process, whoever started gunicorn.

The table of runs is in memory: there may be one worker, and it must be told of a stop early enough to end
what it has begun.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from light_run.errors import SettingsError

_log = logging.getLogger(__name__)

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_POLL = 0.1
_PATIENCE = 60.0


class Worker:
    """The gunicorn worker that this process is."""

    def __init__(self, gunicorn: Any) -> None:
        self._gunicorn = gunicorn

    @property
    def threads(self) -> int:
        """How many requests it takes at once."""
        threads: int = self._gunicorn.cfg.threads
        return threads

    def followers(self, threads: int, most: int) -> int:
        """How many of its threads may follow logs: `most` beyond `threads`, as far as it was given as many.

        A gunicorn that somebody started without thinking of followers lends them a quarter.
        """
        return min(most, max(self.threads - threads, self.threads // 4))

    def check(self) -> None:
        """Raise `SettingsError` where runs would be lost between workers; warn where they would be slow."""
        workers = self._gunicorn.cfg.workers
        if workers > 1:
            if self._gunicorn.age > 1:
                # One of them says so: gunicorn falls over its own feet where two fail at the same time.
                self._wait_to_be_stopped()
            raise SettingsError(
                f"light-run cannot work with {workers} workers: each would know its own runs only, and "
                "answer 404 for the others'; use one worker with many threads (-w 1 --threads 64)"
            )
        if self.threads == 1:
            _log.warning(
                "gunicorn has one thread, so that one sync run holds up everybody, and gunicorn ends the worker "
                "when it takes longer than its --timeout; use --threads 64, or light-run serve"
            )

    def allow_descriptors(self, needed: int) -> None:
        """Raise this process's limit of open files as far as it goes; warn where that is below `needed`."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if most != resource.RLIM_INFINITY and most < needed:
            _log.warning(
                "this process may open %d files, and needs up to %d for its runs and requests at once: raise "
                "the limit (ulimit -n, LimitNOFILE of systemd), or lower LIGHT_RUN_MAX_CONCURRENCY",
                most,
                needed,
            )

    def wait_for_sibling(self, owner: int) -> bool:
        """Whether to go on waiting for the process `owner`: a worker that we replace, and that is stopping."""
        if not self._gunicorn.alive:
            sys.exit(0)
        if _parent_of(owner) != os.getppid():
            return False
        # As long as it waits, gunicorn must not take this worker for dead.
        self._gunicorn.notify()
        time.sleep(_POLL)
        return True

    def _wait_to_be_stopped(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while self._gunicorn.alive and time.monotonic() < deadline:
            self._gunicorn.notify()
            time.sleep(_POLL)
        if not self._gunicorn.alive:
            sys.exit(0)

    def on_stop(self, close: Callable[[float], None], grace: float) -> None:
        """Have `close` called, in a thread, as soon as this worker is told to stop, and before it exits.

        It gets `grace` seconds on SIGTERM, none on SIGINT and SIGQUIT; it may be called twice.
        """
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()

        def handle(number: int, frame: Any) -> None:
            # gunicorn's handlers for SIGINT and SIGQUIT exit at once, also amid the other's clean-up.
            signals.put(number)
            self._gunicorn.handle_exit(number, frame)

        def work() -> None:
            close(grace if signals.get() == signal.SIGTERM else 0.0)

        for number in _STOPPING:
            # Not restarting system calls, as gunicorn would: a worker without threads waits for runs in the
            # very thread that signals are handled in.
            signal.signal(number, handle)
        threading.Thread(target=work, name="light-run-stop", daemon=True).start()
        self._before_exit(close)

    def on_reload(self, mark: Callable[[], None]) -> None:
        """Have `mark`, which only sets a flag, called on SIGHUP.

        That signal comes where the master is ``light-run serve``; gunicorn's own exchanges the worker.
        """
        signal.signal(signal.SIGHUP, lambda _number, _frame: mark())

    def _before_exit(self, close: Callable[[float], None]) -> None:
        # Also where no signal came: gunicorn's master died, or it wants a fresh worker.
        before = self._gunicorn.cfg.worker_exit

        def exiting(arbiter: Any, worker: Any) -> None:
            close(0.0)
            before(arbiter, worker)

        self._gunicorn.cfg.set("worker_exit", exiting)


def current() -> Worker | None:
    """The gunicorn worker that this process is, None outside of gunicorn. Raises RuntimeError."""
    # The one name under which gunicorn is known before it has set up anything else.
    if "gunicorn.arbiter" not in sys.modules or "gunicorn" not in os.environ.get("SERVER_SOFTWARE", ""):
        return None
    from gunicorn.workers.base import Worker as GunicornWorker  # type: ignore[import-untyped,unused-ignore]

    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, GunicornWorker):
        return Worker(owner)
    # The one exception that gunicorn's master ends with a line of, instead of a trace.
    raise RuntimeError(
        "light-run must be loaded by gunicorn's worker, and one of threads: its own threads would not be there "
        "after a fork; leave --preload out, and use -k gthread"
    )


def _parent_of(pid: int) -> int:
    try:
        # "pid (name) state ppid ...": the name may have blanks and parentheses in it.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0
