"""How containers end, and that they run out of memory: one connection to the engine's event stream for all of them.

The engine reports ``die``, with the exit code, as soon as the process is gone. It answers a wait request only after it
has torn down the container's network, which takes two to three times as long as everything else at the end of a run.
The format is that of ``GET /events``: one JSON object a line.
"""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from light_run.engine.daemon.accounting import Accounting
from light_run.engine.daemon.memory import MemoryEvents
from light_run.engine.daemon.stream import EngineStream
from light_run.errors import EngineError, EngineUnavailable

_log = logging.getLogger(__name__)

# What an exit is called: by Docker, and by Podman.
EXITS = ("die", "died")
OUT_OF_MEMORY = "oom"
# The engine, or another client of it, sends a signal.
KILL = "kill"
ACTIONS = (*EXITS, OUT_OF_MEMORY, KILL)
# The engine is asked for exits whose event was missed every so many seconds.
_AUDIT_SECONDS = 10.0
# The engine answers before it subscribes us; events since then are in its buffer.
_REPLAY_SECONDS = 60


class PendingExit:
    """The exit of one container, known or still to come; poll `fileno()`, which becomes readable once it is known.

    `memory` and `accounting` are closed with it. `complete` says that it has been waited for since before the
    container's start, and `told` that the event stream has reported the exit: then it has reported before whether the
    engine, or another client of it, sent the container a signal (`signalled`).
    """

    def __init__(
        self,
        container: str,
        inspect_code: Callable[[], int],
        discard: Callable[[PendingExit], None],
        *,
        complete: bool = True,
    ) -> None:
        self.complete = complete
        self.told = False
        self.signalled = False
        self.memory = MemoryEvents(container)
        self.accounting = Accounting(container)
        self._inspect_code = inspect_code
        self._discard = discard
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closed = False
        self._known = False
        self._lost = False
        self._code: int | None = None

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._descriptor

    @property
    def known(self) -> bool:
        """True once `code` returns or raises at once."""
        return self._known

    def code(self) -> int:
        """The exit code, once `fileno()` is readable.

        Raises EngineUnavailable where the connection to the engine was lost before the exit was reported.
        """
        if self._lost:
            raise EngineUnavailable("the container engine closed its event stream")
        if self._code is None:
            self._code = self._inspect_code()
        return self._code

    def wait(self, timeout: float) -> int:
        """Wait at most `timeout` seconds for the exit code. Raises EngineUnavailable where it does not come."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise EngineUnavailable(f"the container did not exit within {timeout:g} s")
        return self.code()

    def resolve(self, code: int | None = None, *, lost: bool = False) -> None:
        """Make the exit known; without a code, `code` asks the engine for it. The first call counts."""
        with self._lock:
            if self._known or self._closed:
                return
            self._known, self._code, self._lost = True, code, lost
            os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Stop waiting."""
        self._discard(self)
        self.memory.close()
        self.accounting.close()
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)


class ExitEvents:
    """Reports the exit of any number of containers by one connection and one thread, both made when first needed.

    When the connection is lost, every exit that is still to come is resolved as lost: those who wait have to ask the
    engine for the state of their container. The next `watch` connects anew.
    """

    def __init__(
        self,
        connect: Callable[[int], EngineStream],
        list_exited: Callable[[], Collection[str]],
        inspect_code: Callable[[str], int],
    ) -> None:
        self._connect = connect
        self._list_exited = list_exited
        self._inspect_code = inspect_code
        self._lock = threading.Lock()
        self._watched: dict[str, set[PendingExit]] = {}
        self._listener: _Listener | None = None

    def watch(self, container: str, *, started: bool = False) -> PendingExit:
        """Wait for the exit of `container`; `started` says that it may have been started. Raises EngineError."""
        pending = PendingExit(
            container,
            lambda: self._inspect_code(container),
            lambda pending: self._discard(container, pending),
            complete=not started,
        )
        try:
            self._register(container, pending)
        except BaseException:
            pending.close()
            raise
        return pending

    def close(self) -> None:
        """Close the connection and join the thread; exits still to come are lost."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        self._mark_all_lost(listener)

    def _register(self, container: str, pending: PendingExit) -> None:
        while not self._added(container, pending):
            # Not under the lock: an engine may take its time. A second connection made meanwhile is not needed.
            stream = self._connect(int(time.time()) - _REPLAY_SECONDS)
            listener = _Listener(stream, self._take, self._audit, self._mark_all_lost)
            with self._lock:
                superfluous = self._listener is not None
                if not superfluous:
                    self._listener = listener
            if superfluous:
                listener.close()
            else:
                listener.start()

    def _added(self, container: str, pending: PendingExit) -> bool:
        with self._lock:
            if self._listener is None:
                return False
            self._watched.setdefault(container, set()).add(pending)
            return True

    def _discard(self, container: str, pending: PendingExit) -> None:
        with self._lock:
            waiting = self._watched.get(container, set())
            waiting.discard(pending)
            if not waiting:
                self._watched.pop(container, None)

    def _take(self, event: Any) -> None:
        if not isinstance(event, dict) or event.get("Action") not in ACTIONS:
            return
        actor = event.get("Actor") or {}
        if event["Action"] == OUT_OF_MEMORY:
            for pending in self._waiting_for(str(actor.get("ID"))):
                pending.memory.reported()
        elif event["Action"] == KILL:
            for pending in self._waiting_for(str(actor.get("ID"))):
                pending.signalled |= not pending.known
        else:
            for pending in self._waiting_for(str(actor.get("ID"))):
                pending.told |= not pending.known
            self._resolve(str(actor.get("ID")), _exit_code(actor.get("Attributes") or {}))

    def _resolve(self, container: str, code: int | None) -> None:
        for pending in self._waiting_for(container):
            pending.resolve(code)

    def _waiting_for(self, container: str) -> tuple[PendingExit, ...]:
        with self._lock:
            return tuple(self._watched.get(container, ()))

    def _audit(self) -> None:
        with self._lock:
            watched = bool(self._watched)
        if not watched:
            return
        try:
            exited = self._list_exited()
        except EngineError:
            # It may only be busy, or held up. Where it is gone, the stream ends.
            return
        for container in exited:
            self._resolve(container, None)

    def _mark_all_lost(self, listener: _Listener | None) -> None:
        with self._lock:
            if self._listener is not listener and self._listener is not None:
                return
            self._listener = None
            waiting = [pending for each in self._watched.values() for pending in each]
        for pending in waiting:
            pending.resolve(lost=True)


class _Listener:
    """Reads one connection to the event stream in a thread of its own, until it ends or is closed."""

    def __init__(
        self,
        stream: EngineStream,
        take: Callable[[Any], None],
        audit: Callable[[], None],
        lost: Callable[[_Listener], None],
    ) -> None:
        self._stream = stream
        self._take = take
        self._audit = audit
        self._lost = lost
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine-events", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and close the connection."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._stop, 1)
        if self._thread.ident is None:
            self._release()
        else:
            self._thread.join()

    def _release(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self._stop)
        self._stream.close()

    def _run(self) -> None:
        try:
            self._listen()
        except (EngineError, OSError, ValueError) as error:
            _log.warning("the connection to the engine's event stream is given up: %s", error)
        except Exception:  # noqa: BLE001 - whatever it was, it is in the log
            # Without this thread no run would ever end.
            _log.exception("the engine's event stream cannot be read")
        finally:
            self._release()
            self._lost(self)

    def _listen(self) -> None:
        rest = b""
        for data in self._chunks():
            *lines, rest = (rest + data).split(b"\n")
            for line in filter(None, lines):
                self._take(json.loads(line))

    def _chunks(self) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(self._stop, select.POLLIN)
        poll.register(self._stream, select.POLLIN)
        audit_at = time.monotonic() + _AUDIT_SECONDS
        while True:
            patience = 0.0 if self._stream.buffered else max(0.0, audit_at - time.monotonic())
            ready = dict(poll.poll(patience * 1000))
            if self._stop in ready:
                return
            data = self._stream.read()
            if data == b"":
                return
            if data is not None:
                yield data
            if time.monotonic() >= audit_at:
                self._audit()
                audit_at = time.monotonic() + _AUDIT_SECONDS


def _exit_code(attributes: Mapping[str, Any]) -> int | None:
    # Podman 4 calls it containerExitCode; where there is none, the engine is asked for it.
    code = str(attributes.get("exitCode", attributes.get("containerExitCode", "")))
    return int(code) if code.isdecimal() else None
