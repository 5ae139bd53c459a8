"""Waits for conditions, with a deadline, instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Polling slows the machine down, so the pauses grow.
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.02, 1.2, 0.1


def eventually(look: Callable[[], T], what: str, *, within: float = 30.0) -> T:
    """Return the first truthy result of `look`; fail with the message `what` after `within` seconds."""
    deadline = time.monotonic() + within
    pause = _FIRST_PAUSE
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {answer!r}")
        time.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def until_nothing(look: Callable[[], list[T]], what: str, *, within: float = 20.0) -> None:
    """Wait until `look` returns an empty list; fail with `what` and the last list after `within` seconds."""
    found: list[T] = []

    def gone() -> bool:
        found[:] = look()
        return not found

    try:
        eventually(gone, what, within=within)
    except AssertionError:
        raise AssertionError(f"not within {within:g} s: {what}; there is still: {found}") from None
