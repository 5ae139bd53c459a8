"""`StdinFeed`: from the threads that write to the one that sends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from light_run.engine.stdin import StdinFeed
from light_run.errors import StdinClosed
from tests.support.poll import eventually


def taken(feed: StdinFeed) -> bytes:
    """The next piece, as a sender takes it."""
    piece = eventually(feed.piece, "there is a piece")
    assert piece is not None
    feed.sent(piece)
    return bytes(piece)


def test_a_writer_returns_once_its_piece_was_sent() -> None:
    feed, woken = StdinFeed(), threading.Event()
    with ThreadPoolExecutor() as threads, feed.attached(woken.set):
        writing = threads.submit(feed.write, b"one")
        assert woken.wait(10)
        assert not writing.done()
        assert taken(feed) == b"one"
        writing.result(10)
        assert not feed.ended


def test_pieces_come_whole_and_the_end_behind_them() -> None:
    feed = StdinFeed()
    with ThreadPoolExecutor() as threads:
        writing = [threads.submit(feed.write, bytes([number]) * 3) for number in range(5)]
        found = [taken(feed) for _ in writing]
        assert sorted(found) == [bytes([number]) * 3 for number in range(5)]
        feed.close()
        assert feed.ended
        with pytest.raises(StdinClosed):
            feed.write(b"late")
        with pytest.raises(StdinClosed):
            feed.write(b"")
        with pytest.raises(StdinClosed):
            feed.close()


def test_nobody_is_left_waiting_for_one_that_sends_no_more() -> None:
    feed = StdinFeed()
    with ThreadPoolExecutor() as threads:
        with feed.attached(lambda: None):
            writing = [threads.submit(feed.write, b"x") for _ in range(3)]
            eventually(feed.piece, "there is a piece")
        for each in writing:
            with pytest.raises(StdinClosed):
                each.result(10)
    assert feed.ended


def test_a_writer_that_is_given_up_leaves_its_place_to_the_next() -> None:
    feed, gone = StdinFeed(), threading.Event()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(feed.write, b"first", gone.is_set)
        piece = eventually(feed.piece, "there is a piece")
        assert piece is not None
        gone.set()
        first.result(10)
        second = threads.submit(feed.write, b"second")
        eventually(lambda: feed.piece() is not piece and feed.piece() is not None, "the next piece is there")
        # The sender ends what it had begun; the next one is still to be sent.
        feed.sent(piece)
        assert not second.done()
        assert taken(feed) == b"second"
        second.result(10)
