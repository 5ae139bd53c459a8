"""Sharing a bounded number of places between tokens, so that none of them can take all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# A token may hold this many places for each one that is still free: alone, three quarters of all.
SHARE = 3


def is_fair(mine: int, free: int, owner: str | None) -> bool:
    """Return True if `owner`, who holds `mine` places, may take one of the `free` ones.

    The share shrinks as places become scarce, and the last place is for a newcomer. The operator (None) may take all.
    """
    return free > 0 and (owner is None or not mine or mine < SHARE * (free - 1))


class Places:
    """`capacity` places, of which each token gets a fair share; see `is_fair`."""

    def __init__(self, capacity: int) -> None:
        self._lock = threading.Lock()
        self._free = capacity
        self._held: Counter[str | None] = Counter()

    def take(self, owner: str | None) -> bool:
        """Take a place for `owner`; `give_back` must follow. Returns False if there is none for it."""
        with self._lock:
            if not is_fair(self._held[owner], self._free, owner):
                return False
            self._free -= 1
            self._held[owner] += 1
            return True

    def give_back(self, owner: str | None) -> None:
        """Give back a place of `owner`."""
        with self._lock:
            self._free += 1
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]

    @contextmanager
    def reserve(self, owner: str | None) -> Iterator[bool]:
        """Take a place while the block runs; yields False if there is none."""
        taken = self.take(owner)
        try:
            yield taken
        finally:
            if taken:
                self.give_back(owner)
