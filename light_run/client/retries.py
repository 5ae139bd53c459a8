"""How often and how long a request is sent again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

# Seconds. The first pause is about this long, each further one twice as long, up to the most.
FIRST = 0.2
MOST = 10.0
# A server that has never answered is more likely not there than busy with a restart.
UNKNOWN = 3.0


@dataclass(frozen=True, slots=True)
class Retries:
    """`within` is how many seconds after a failure further tries are made; 0 is none.

    `sleep` and `clock` are those of `time`, or a test's.
    """

    within: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def begin(self, *, known: bool = True) -> RetryAttempts:
        """The tries of one request; `known` says that the server has answered before."""
        return RetryAttempts(self, self.within if known else min(self.within, UNKNOWN))


class RetryAttempts:
    """One request's tries, bounded by a deadline that runs from the first failure."""

    def __init__(self, retries: Retries, within: float) -> None:
        self._retries = retries
        self._within = within
        self._deadline: float | None = None
        self.failed = 0

    def again(self, at_least: float = 0.0) -> bool:
        """Pause after a failure, `at_least` seconds; False, at once, where there is no time for that."""
        now = self._retries.clock()
        if self._deadline is None:
            self._deadline = now + self._within
        longest = min(MOST, FIRST * 2 ** min(self.failed, 20))
        # Many clients that lost one server do not come back to it in step.
        pause = max(at_least, longest * random.uniform(0.5, 1))  # noqa: S311
        if now + pause > self._deadline:
            return False
        self.failed += 1
        self._retries.sleep(pause)
        return True

    def reset(self) -> None:
        """Begin anew: something has come through."""
        self._deadline, self.failed = None, 0
