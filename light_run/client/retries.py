"""When and how long requests are retried: with exponential backoff, up to a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds. Each pause is about twice as long as the one before, up to the maximum.
FIRST_PAUSE = 0.2
MAX_PAUSE = 10.0
# Seconds of retries for a server that has never responded: the address is probably wrong.
FIRST_CONTACT_WITHIN = 3.0


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries for `within` seconds after the first failure; 0 disables them.

    `sleep` and `clock` are `time.sleep` and `time.monotonic`; tests replace them.
    """

    within: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def begin(self, *, known: bool = True) -> RetryAttempts:
        """Return the attempts of one request; `known` is True if the server has responded before."""
        return RetryAttempts(self, self.within if known else min(self.within, FIRST_CONTACT_WITHIN))


class RetryAttempts:
    """The attempts of one request, with a deadline that starts at the first failure."""

    def __init__(self, retries: Retries, within: float) -> None:
        self._retries = retries
        self._within = within
        self._deadline: float | None = None
        self.failed = 0

    def again(self, at_least: float = 0.0) -> bool:
        """Sleep after a failure, for `at_least` seconds or more; return False at once if the deadline is too near."""
        now = self._retries.clock()
        if self._deadline is None:
            self._deadline = now + self._within
        longest = min(MAX_PAUSE, FIRST_PAUSE * 2 ** min(self.failed, 20))
        # Random, so that the clients of a restarted server do not all retry at the same time.
        pause = max(at_least, longest * random.uniform(0.5, 1))  # noqa: S311
        if now + pause > self._deadline:
            return False
        self.failed += 1
        self._retries.sleep(pause)
        return True

    def reset(self) -> None:
        """Restart the deadline and the pauses after some progress."""
        self._deadline, self.failed = None, 0
