"""A wish to stop: who hears of it, and when."""

from __future__ import annotations

import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from light_run.engine.spec import Reason
from light_run.engine.stop import CancelToken, Halt, Left
from light_run.errors import Cancelled


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def test_a_cancel_is_seen_and_stays() -> None:
    token = CancelToken()
    token.check()
    token.cancel()
    token.cancel()
    assert token.cancelled
    with pytest.raises(Cancelled):
        token.check()


def test_subscribers_are_called_once() -> None:
    token, calls = CancelToken(), cast("list[str]", [])
    with token.calling(lambda: calls.append("one")), token.calling(lambda: calls.append("two")):
        token.cancel()
        token.cancel()
    assert calls == ["one", "two"]


def test_a_subscriber_that_comes_late_is_called_at_once() -> None:
    token, calls = CancelToken(), cast("list[str]", [])
    token.cancel()
    with token.calling(lambda: calls.append("late")):
        assert calls == ["late"]


def test_a_subscriber_that_left_is_not_called() -> None:
    token, calls = CancelToken(), cast("list[str]", [])
    with token.calling(lambda: calls.append("left")):
        pass
    token.cancel()
    assert calls == []


def test_a_descriptor_becomes_readable_on_a_cancel() -> None:
    token = CancelToken()
    with token.descriptor() as one, token.descriptor() as other:
        assert not readable(one)
        token.cancel()
        assert readable(one)
        assert readable(other)
    with token.descriptor() as late:
        assert readable(late)


def test_a_descriptor_is_not_inherited() -> None:
    with CancelToken().descriptor() as descriptor:
        assert not os.get_inheritable(descriptor)


def test_a_cancel_never_writes_to_a_descriptor_that_was_closed() -> None:
    # The token's thread may have its list of whom to call just when the block is left; the number of the
    # descriptor is then another file's.
    for _ in range(300):
        token = CancelToken()
        begin = threading.Barrier(2)

        def cancel(token: CancelToken = token, begin: threading.Barrier = begin) -> None:
            begin.wait()
            token.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with token.descriptor():
            begin.wait()
        read, write = os.pipe2(os.O_NONBLOCK)
        thread.join()
        with pytest.raises(BlockingIOError):
            os.read(read, 8)
        os.close(read)
        os.close(write)


def test_waiting_ends_with_a_cancel_or_with_the_time() -> None:
    token = CancelToken()
    assert not token.wait(0.001)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(token.wait, 30.0)
        token.cancel()
        assert waiting.result(10)
    assert token.wait(0)


# --- why --------------------------------------------------------------------------------------------------


def test_a_halt_that_kills_says_why() -> None:
    halt = Halt()
    halt.check()
    halt.kill(Reason.CANCELLED)
    assert halt.reason is Reason.CANCELLED
    with pytest.raises(Cancelled):
        halt.check()


def test_a_halt_that_leaves() -> None:
    halt = Halt()
    halt.leave()
    assert halt.reason is None
    with pytest.raises(Left):
        halt.check()


def test_the_first_wish_counts() -> None:
    cancelled, left = Halt(), Halt()
    cancelled.kill(Reason.CANCELLED)
    cancelled.kill(Reason.DISK_LIMIT)
    cancelled.leave()
    assert cancelled.reason is Reason.CANCELLED
    left.leave()
    left.kill(Reason.CANCELLED)
    left.kill(Reason.DISK_LIMIT)
    assert left.reason is None


def test_what_comes_behind_a_full_disk_ends_the_extraction() -> None:
    cancelled, left = Halt(), Halt()
    for halt in (cancelled, left):
        halt.kill(Reason.DISK_LIMIT)
    cancelled.kill(Reason.CANCELLED)
    left.leave()
    with pytest.raises(Cancelled):
        cancelled.check()
    with pytest.raises(Left):
        left.check()


def test_a_full_disk_is_not_a_cancel() -> None:
    # What the run left may still be extracted.
    halt = Halt()
    halt.kill(Reason.DISK_LIMIT)
    assert halt.cancelled
    halt.check()
