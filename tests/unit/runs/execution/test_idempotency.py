"""One key, one body, one run."""

from __future__ import annotations

import threading

import pytest

from light_run.errors import IdempotencyConflict, Overloaded
from light_run.runs.execution import idempotency as module
from light_run.runs.execution.idempotency import KeyClaims
from tests.support.poll import eventually


def test_another_request_with_the_key_waits_for_the_first() -> None:
    keys, trace = KeyClaims(), list[str]()

    def second() -> None:
        with keys.claim("", "k", "digest"):
            trace.append("second")

    thread = threading.Thread(target=second)
    with keys.claim("", "k", "digest"):
        thread.start()
        assert trace == []
        trace.append("first")
    thread.join(10)
    assert trace == ["first", "second"]
    assert keys._claims == {}


def test_another_body_is_a_conflict_at_once() -> None:
    keys = KeyClaims()
    with keys.claim("", "k", "digest"), pytest.raises(IdempotencyConflict), keys.claim("", "k", "other"):
        pass


def test_other_keys_and_other_owners_do_not_wait() -> None:
    keys = KeyClaims()
    with keys.claim("", "k", "digest"), keys.claim("", "l", "digest"), keys.claim("o", "k", "other"):
        assert len(keys._claims) == 3


def test_a_failure_sets_the_key_free() -> None:
    keys = KeyClaims()
    with pytest.raises(ValueError, match="no"), keys.claim("", "k", "digest"):
        raise ValueError("no")
    with keys.claim("", "k", "other"):
        pass


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    keys = KeyClaims()
    with keys.claim("", "k", "digest"), pytest.raises(Overloaded), keys.claim("", "k", "digest"):
        pass


def test_many_at_once_pass_one_by_one() -> None:
    keys, inside, most = KeyClaims(), list[int](), list[int]()

    def claim() -> None:
        with keys.claim("", "k", "digest"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=claim) for _ in range(20)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(most) == 20, "all have passed", within=10)
    for thread in threads:
        thread.join()
    assert set(most) == {1}
