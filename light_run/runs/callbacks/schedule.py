"""When a callback is tried again, and when it is given up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_OK = range(200, 300)
_GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Pauses between tries, in seconds: `first`, then each `factor` times the one before, none above `longest`.

    Each is up to `jitter` (a fraction) longer or shorter, so that receivers that were away are not met by
    everything at once. No try begins later than `lifetime` after the run's end.
    """

    first: float = 2.0
    factor: float = 3.0
    longest: float = 3600.0
    lifetime: float = 86_400.0
    jitter: float = 0.2


DEFAULT = Schedule()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows a try: `delivered`, or another one `again` seconds later, or neither: it is given up."""

    delivered: bool = False
    again: float | None = None


def judge(
    schedule: Schedule,
    *,
    attempts: int,
    age: float,
    status: int | None,
    retry_after: float | None,
    random: Callable[[], float],
) -> Verdict:
    """What follows try number `attempts`, made `age` seconds after the run's end and answered with `status`.

    `status` None: there was no answer. A receiver that asks for a longer pause with Retry-After gets it, as
    far as there is time; one that answers 410 is never asked again. `random` gives 0 to 1.
    """
    if status in _OK:
        return Verdict(delivered=True)
    if status == _GONE:
        return Verdict()
    # The exponent is bounded: a float overflows long before a day of tries at a second each is over.
    pause = min(schedule.first * schedule.factor ** min(attempts - 1, 64), schedule.longest)
    pause *= 1 + schedule.jitter * (2 * random() - 1)
    pause = max(pause, min(retry_after or 0.0, schedule.lifetime - age))
    return Verdict(again=pause) if age + pause <= schedule.lifetime else Verdict()
