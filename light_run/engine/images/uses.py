"""When cached images of steps were last used, so that the least recently used ones can be removed."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from light_run.system.folders import make_private


class StepUses:
    """Records uses of step images by their keys, with times from `clock` (seconds since the epoch).

    Each key is an empty file in `folder` whose modification time is its last use, so that it outlives this process.
    With None, or where the disk is full, uses are remembered in memory alone.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._changed = threading.Condition()
        self._used: dict[str, float] = {}
        self._removing: set[str] = set()

    def use(self, key: str) -> None:
        """Record a use, before the image is looked for; waits while that image is being removed."""
        with self._changed:
            self._changed.wait_for(lambda: key not in self._removing)
            self._used[key] = now = self._clock()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                make_private(self._folder)
                path = self._folder / key
                path.touch(mode=0o600)
                os.utime(path, (now, now))

    def last(self, key: str) -> float | None:
        """Return when `key` was last used; None if that is not known."""
        recorded = None
        if self._folder is not None:
            with contextlib.suppress(OSError):
                recorded = (self._folder / key).stat().st_mtime
        with self._changed:
            used = self._used.get(key)
        return recorded if used is None else max(used, recorded or 0.0)

    @contextlib.contextmanager
    def removing(self, key: str, unused_since: float) -> Iterator[bool]:
        """Keep `key` from being used in the block; yields False if it was used after `unused_since` after all."""
        with self._changed:
            free = self._used.get(key, float("-inf")) <= unused_since
            if free:
                self._removing.add(key)
        try:
            yield free
        finally:
            with self._changed:
                self._removing.discard(key)
                self._changed.notify_all()

    def forget_except(self, keys: Collection[str], unused_since: float) -> None:
        """Drop what is recorded of keys that are not in `keys` and were not used after `unused_since`."""
        with self._changed:
            for key, used in list(self._used.items()):
                if key not in keys and used <= unused_since:
                    del self._used[key]
        if self._folder is None:
            return
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                if path.name not in keys and path.stat().st_mtime <= unused_since:
                    path.unlink(missing_ok=True)
