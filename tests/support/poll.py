"""Waiting for something to become true, never for time to pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Looks cost the machine on which what is waited for happens: the longer it takes, the fewer there are.
_FIRST_PAUSE, _GROWTH, _LONGEST_PAUSE = 0.02, 1.2, 0.1


def eventually(look: Callable[[], T], what: str, *, within: float = 30.0) -> T:
    """Return the first truthy answer of `look`; fail, saying `what`, once `within` seconds have passed."""
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
    """Return once `look` finds nothing; fail, saying `what` and what it found, once `within` seconds have passed."""
    found: list[T] = []

    def gone() -> bool:
        found[:] = look()
        return not found

    try:
        eventually(gone, what, within=within)
    except AssertionError:
        raise AssertionError(f"not within {within:g} s: {what}; there is still: {found}") from None
