"""Integrates the application with gunicorn's worker process, however gunicorn was started.

The run table is in memory, so there must be only one worker, and it must know early enough that it is being
stopped, to end its runs.
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
    """The gunicorn worker of this process."""

    def __init__(self, gunicorn: Any) -> None:
        self._gunicorn = gunicorn

    @property
    def threads(self) -> int:
        """The number of requests that it serves at the same time."""
        threads: int = self._gunicorn.cfg.threads
        return threads

    def followers(self, threads: int, most: int) -> int:
        """Return how many threads can follow logs: those beyond `threads`, at most `most`.

        If gunicorn was started without extra threads for followers, they can use a quarter of all threads.
        """
        return min(most, max(self.threads - threads, self.threads // 4))

    def check(self) -> None:
        """Raise `SettingsError` if there are several workers; log a warning if there is only one thread."""
        workers = self._gunicorn.cfg.workers
        if workers > 1:
            if self._gunicorn.age > 1:
                # Only the first worker raises: gunicorn does not exit cleanly if two workers fail at once.
                self._wait_to_be_stopped()
            raise SettingsError(
                f"light-run cannot work with {workers} workers: each would only know its own runs and respond "
                "with 404 for all others; use one worker with many threads (-w 1 --threads 64)"
            )
        if self.threads == 1:
            _log.warning(
                "gunicorn has one thread: a sync run blocks all other requests, and gunicorn kills the worker if "
                "the run takes longer than --timeout; use --threads 64, or light-run serve"
            )

    def allow_descriptors(self, needed: int) -> None:
        """Raise the limit of open files to its hard limit; log a warning if that is below `needed`."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if most != resource.RLIM_INFINITY and most < needed:
            _log.warning(
                "this process can open %d files, but may need up to %d for its runs and requests: raise "
                "the limit (ulimit -n, LimitNOFILE of systemd), or lower LIGHT_RUN_MAX_CONCURRENCY",
                most,
                needed,
            )

    def wait_for_sibling(self, owner: int) -> bool:
        """Return whether to keep waiting for the process `owner`: True if this worker replaces it."""
        if not self._gunicorn.alive:
            sys.exit(0)
        if _parent_of(owner) != os.getppid():
            return False
        # gunicorn would kill a worker that does not report while it waits.
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
        """Call `close` in a thread when this worker receives a stop signal, and again before it exits.

        The argument of `close` is `grace` seconds on SIGTERM, and 0 on SIGINT and SIGQUIT and before the exit.
        """
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()

        def handle(number: int, frame: Any) -> None:
            # gunicorn's handlers for SIGINT and SIGQUIT exit at once, even during the clean-up after SIGTERM.
            signals.put(number)
            self._gunicorn.handle_exit(number, frame)

        def work() -> None:
            close(grace if signals.get() == signal.SIGTERM else 0.0)

        for number in _STOPPING:
            # Unlike gunicorn, do not restart system calls: a worker without threads waits for runs in the same
            # thread that handles signals.
            signal.signal(number, handle)
        threading.Thread(target=work, name="light-run-stop", daemon=True).start()
        self._before_exit(close)

    def on_reload(self, mark: Callable[[], None]) -> None:
        """Call `mark`, which must only set a flag, on SIGHUP.

        Only the master of ``light-run serve`` passes this signal on; gunicorn's own master replaces the worker.
        """
        signal.signal(signal.SIGHUP, lambda _number, _frame: mark())

    def _before_exit(self, close: Callable[[float], None]) -> None:
        # The worker can exit without a signal: gunicorn's master died, or it replaces the worker.
        before = self._gunicorn.cfg.worker_exit

        def exiting(arbiter: Any, worker: Any) -> None:
            close(0.0)
            before(arbiter, worker)

        self._gunicorn.cfg.set("worker_exit", exiting)


def current() -> Worker | None:
    """Return the gunicorn worker of this process, or None outside of gunicorn. Raises RuntimeError."""
    # gunicorn sets SERVER_SOFTWARE before it loads the application.
    if "gunicorn.arbiter" not in sys.modules or "gunicorn" not in os.environ.get("SERVER_SOFTWARE", ""):
        return None
    from gunicorn.workers.base import Worker as GunicornWorker  # type: ignore[import-untyped,unused-ignore]

    owner = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if isinstance(owner, GunicornWorker):
        return Worker(owner)
    # For this exception, gunicorn's master prints one line instead of a traceback.
    raise RuntimeError(
        "light-run must be loaded in a gunicorn worker with threads, because its own threads do not survive a fork: "
        "remove --preload and use -k gthread"
    )


def _parent_of(pid: int) -> int:
    try:
        # "pid (name) state ppid ...": the name can contain spaces and parentheses.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0
