"""Places for clients that read the output of runs, so that they leave threads and processor time for others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from light_run.api.auth import bearer
from light_run.errors import Overloaded
from light_run.runs.fairness import Places

# Logs that are read, and not followed, at the same time. Reading one keeps a processor busy.
READERS = 16

# Seconds after which a client may try again.
_RETRY_AFTER = 5
_READ_AGAIN = 1


class OutputPlaces:
    """`followers` clients may follow runs at the same time, `readers` may read what is there so far.

    Each token gets a fair share of both.
    """

    def __init__(self, followers: int, readers: int = READERS) -> None:
        self._followers = Places(followers)
        self._readers = Places(readers)

    def take(self, *, follows: bool) -> Callable[[], None]:
        """Take a place for the current request; returns a function that gives it back. Raises `Overloaded`."""
        owner, places = bearer.owner(), self._followers if follows else self._readers
        if not places.take(owner):
            if places is self._readers:
                raise Overloaded("too many logs are read at the same time; try again", _READ_AGAIN)
            message = "too many clients follow a run already; try again, or ask for the lines so far"
            raise Overloaded(message, _RETRY_AFTER)
        return partial(places.give_back, owner)
