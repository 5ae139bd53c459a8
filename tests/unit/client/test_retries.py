"""How long a request is sent again, on a clock of the test's own."""

from __future__ import annotations

from contextlib import closing

import pytest

from light_run.client.connection import Connection
from light_run.client.retries import FIRST_CONTACT_WITHIN, MAX_PAUSE, Retries
from tests.support.receiver import Answer, receiving


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.pauses.append(seconds)
        self.now += seconds

    def retries(self, within: float) -> Retries:
        """Retries on this clock."""
        return Retries(within=within, sleep=self.sleep, clock=lambda: self.now)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def test_pauses_grow_and_end_with_the_deadline(clock: Clock) -> None:
    tries = clock.retries(60).begin()
    while tries.again():
        pass
    assert 55 - MAX_PAUSE < sum(clock.pauses) <= 60
    assert tries.failed == len(clock.pauses)
    assert clock.pauses[0] <= 0.2
    assert all(pause <= MAX_PAUSE for pause in clock.pauses)
    assert clock.pauses[4] > 2 * clock.pauses[0]


def test_a_server_names_the_least_pause(clock: Clock) -> None:
    tries = clock.retries(60).begin()
    assert tries.again(7)
    assert clock.pauses == [7]
    assert not tries.again(100)
    assert clock.pauses == [7]


def test_none_at_all(clock: Clock) -> None:
    assert not clock.retries(0).begin().again()
    assert clock.pauses == []


def test_who_never_answered_gets_less_time(clock: Clock) -> None:
    tries = clock.retries(60).begin(known=False)
    while tries.again():
        pass
    assert sum(clock.pauses) <= FIRST_CONTACT_WITHIN


def test_what_came_through_begins_a_new_deadline(clock: Clock) -> None:
    tries = clock.retries(10).begin()
    for _ in range(20):
        assert tries.again(6)
        tries.reset()
    assert clock.pauses == [6.0] * 20


@pytest.mark.parametrize("status", [503, 502])
def test_a_server_that_is_full_is_asked_again_by_who_asks_for_the_first_time(
    clock: Clock, status: int
) -> None:
    with receiving() as receiver:
        receiver.answer = lambda _, number: Answer(status, {"Retry-After": "4"}) if number < 3 else Answer()
        connection = Connection(receiver.url, None, timeout=10, retries=clock.retries(60))
        with closing(connection), connection.send("POST", "/run", body=lambda: b"{}"):
            pass
    assert len(receiver.received) == 4
    assert len(clock.pauses) == 3
    assert min(clock.pauses) >= 4
