"""The request to end a run: which one counts, and who learns of it."""

from __future__ import annotations

import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from light_run.engine.spec import Reason
from light_run.engine.stop import CANCEL, Detached, Stop, StopRequest
from light_run.errors import Cancelled


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_cancel_is_seen_and_stays() -> None:
    stop = StopRequest()
    stop.check()
    stop.request()
    stop.request()
    assert stop.requested == CANCEL
    with pytest.raises(Cancelled):
        stop.check()


def test_subscribers_are_called_once() -> None:
    stop, calls = StopRequest(), cast("list[str]", [])
    with stop.subscribed(lambda: calls.append("one")), stop.subscribed(lambda: calls.append("two")):
        stop.request()
        stop.request()
    assert calls == ["one", "two"]


def test_a_subscriber_that_comes_late_is_called_at_once() -> None:
    stop, calls = StopRequest(), cast("list[str]", [])
    stop.request()
    with stop.subscribed(lambda: calls.append("late")):
        assert calls == ["late"]


def test_a_subscriber_that_left_is_not_called() -> None:
    stop, calls = StopRequest(), cast("list[str]", [])
    with stop.subscribed(lambda: calls.append("left")):
        pass
    stop.request()
    assert calls == []


def test_a_descriptor_becomes_readable_on_a_cancel() -> None:
    stop = StopRequest()
    with stop.descriptor() as one, stop.descriptor() as other:
        assert not readable(one)
        stop.request()
        assert readable(one)
        assert readable(other)
    with stop.descriptor() as late:
        assert readable(late)


def test_a_descriptor_is_not_inherited() -> None:
    with StopRequest().descriptor() as descriptor:
        assert not os.get_inheritable(descriptor)


def test_a_cancel_never_writes_to_a_descriptor_that_was_closed() -> None:
    # The stop's thread may have its list of whom to call just when the block is left; the number of the
    # descriptor is then another file's.
    for _ in range(300):
        stop = StopRequest()
        begin = threading.Barrier(2)

        def cancel(stop: StopRequest = stop, begin: threading.Barrier = begin) -> None:
            begin.wait()
            stop.request()

        thread = threading.Thread(target=cancel)
        thread.start()
        with stop.descriptor():
            begin.wait()
        read, write = os.pipe2(os.O_NONBLOCK)
        thread.join()
        with pytest.raises(BlockingIOError):
            os.read(read, 8)
        os.close(read)
        os.close(write)


def test_waiting_ends_with_a_cancel_or_with_the_time() -> None:
    stop = StopRequest()
    assert not stop.wait(0.001)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stop.wait, 30.0)
        stop.request()
        assert waiting.result(10)
    assert stop.wait(0)


# --- which one counts -------------------------------------------------------------------------------------

DISK, TIME = Stop(Reason.DISK_LIMIT), Stop(Reason.TIMEOUT)
SHUTDOWN = Stop(Reason.INTERRUPTED)
STOPPED = Stop(Reason.STOPPED, signal="SIGTERM", grace=10.0)


@pytest.mark.parametrize(
    ("requests", "counts"),
    [
        ([DISK, TIME], DISK),
        ([TIME, DISK], TIME),
        ([DISK, CANCEL], CANCEL),
        ([CANCEL, DISK], CANCEL),
        ([DISK, SHUTDOWN], SHUTDOWN),
        ([SHUTDOWN, DISK], SHUTDOWN),
        ([SHUTDOWN, CANCEL], CANCEL),
        ([CANCEL, SHUTDOWN], CANCEL),
        ([STOPPED, CANCEL], CANCEL),
        ([CANCEL, STOPPED], CANCEL),
        ([DISK, STOPPED], STOPPED),
        ([STOPPED, SHUTDOWN], SHUTDOWN),
        ([STOPPED, Stop(Reason.STOPPED)], STOPPED),
    ],
)
def test_which_request_counts(requests: list[Stop], counts: Stop) -> None:
    stop, calls = StopRequest(), cast("list[Stop | None]", [])
    with stop.subscribed(lambda: calls.append(stop.requested)):
        changed = [stop.request(each) for each in requests]
    assert stop.requested == counts
    # Whoever listens hears of each change, and of nothing else.
    assert calls == [each for each, new in zip(requests, changed, strict=True) if new]
    assert changed == [True, counts is requests[1]]


@pytest.mark.parametrize("stop", [DISK, TIME])
def test_a_limit_does_not_discard_the_results(stop: Stop) -> None:
    asked = StopRequest()
    asked.request(stop)
    asked.check()


@pytest.mark.parametrize("stop", [CANCEL, SHUTDOWN])
def test_a_stop_that_discards_ends_whatever_is_under_way(stop: Stop) -> None:
    asked = StopRequest()
    asked.request(DISK)
    asked.request(stop)
    with pytest.raises(Cancelled):
        asked.check()


def test_a_stop_keeps_the_results_and_starts_nothing() -> None:
    asked = StopRequest()
    asked.check_start()
    asked.request(STOPPED)
    asked.check()
    with pytest.raises(Cancelled):
        asked.check_start()


def test_the_clock_stands_still_while_paused() -> None:
    stop, calls = StopRequest(), cast("list[bool]", [])
    with stop.subscribed(lambda: calls.append(stop.paused)):
        assert stop.paused_seconds() == 0
        stop.pause()
        time.sleep(0.02)
        stop.pause()
        first = stop.paused_seconds()
        assert first >= 0.02
        stop.resume()
        stop.resume()
    total = stop.paused_seconds()
    assert total == stop.paused_seconds() >= first
    assert calls == [True, True, False, False]


@pytest.mark.parametrize("before", [None, DISK, TIME])
def test_a_detached_run_listens_no_more(before: Stop | None) -> None:
    stop = StopRequest()
    if before is not None:
        stop.request(before)
    assert stop.detach()
    assert not stop.detach()
    assert not stop.request()
    assert (stop.detached, stop.requested) == (True, None)
    with pytest.raises(Detached):
        stop.check()
    assert stop.wait(0)


@pytest.mark.parametrize("before", [CANCEL, SHUTDOWN])
def test_a_run_that_is_to_be_discarded_is_not_detached(before: Stop) -> None:
    stop = StopRequest()
    stop.request(before)
    assert not stop.detach()
    assert (stop.detached, stop.requested) == (False, before)


def test_a_run_that_has_ended_listens_no_more() -> None:
    stop = StopRequest()
    assert stop.close()
    assert not stop.close()
    assert not stop.request()
    assert not stop.detach()
    assert (stop.closed, stop.requested) == (True, None)


def test_an_end_comes_before_a_detachment_that_was_not_heeded_yet() -> None:
    stop = StopRequest()
    stop.detach()
    assert stop.close()
    assert not stop.detached
