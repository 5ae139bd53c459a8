"""Runs and the ways they may change."""

from __future__ import annotations

import tracemalloc
from datetime import datetime, timedelta, timezone
from itertools import product

import pytest

from light_run.engine.spec import Reason, RunArtifact, RunResult, RunSpec
from light_run.engine.stop import Stop
from light_run.runs.artifact_list import packed
from light_run.runs.model import TRANSITIONS, RunRecord, RunRequest, Status, advance, end, start

NOW = datetime(2026, 4, 20, 10, tzinfo=timezone.utc)
Q, R, S, F, C = Status
LEGAL = {(Q, R), (Q, F), (Q, C), (R, S), (R, F), (R, C)}


def a_run(status: Status = Status.RUNNING, **fields: object) -> RunRecord:
    at = None if status is Status.QUEUED else NOW
    return RunRecord(**{"id": "r", "status": status, "created_at": NOW, "started_at": at, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "after"), list(product(Status, Status)))
def test_only_legal_transitions_are_made(before: Status, after: Status) -> None:
    run = a_run(before)
    if (before, after) in LEGAL:
        assert advance(run, after, error="x").status is after
        assert run.status is before
    else:
        with pytest.raises(ValueError, match="cannot go"):
            advance(run, after)


def test_every_status_is_in_the_table_and_three_are_the_end() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {status for status in Status if status.ended} == {S, F, C}


def test_a_run_that_starts_knows_how_long_it_waited() -> None:
    run = start(a_run(Q), at=NOW, queued=1.5)
    assert (run.status, run.started_at, run.queued_ms) == (R, NOW, 1500)


@pytest.mark.parametrize(
    ("reason", "exit_code", "stopped", "status", "final_reason"),
    [
        (Reason.EXIT, 0, None, S, Reason.EXIT),
        (Reason.EXIT, 3, None, F, Reason.EXIT),
        (Reason.TIMEOUT, 137, None, F, Reason.TIMEOUT),
        (Reason.OUT_OF_MEMORY, 0, None, F, Reason.OUT_OF_MEMORY),
        (Reason.PULL_FAILED, None, None, F, Reason.PULL_FAILED),
        (Reason.CANCELLED, None, Reason.CANCELLED, C, Reason.CANCELLED),
        (Reason.EXIT, 0, Reason.CANCELLED, C, Reason.CANCELLED),
        (Reason.TIMEOUT, 137, Reason.CANCELLED, C, Reason.CANCELLED),
        (Reason.INTERRUPTED, None, Reason.INTERRUPTED, F, Reason.INTERRUPTED),
        (Reason.EXIT, 0, Reason.INTERRUPTED, S, Reason.EXIT),
    ],
)
def test_how_a_run_ends(
    reason: Reason, exit_code: int | None, stopped: Reason | None, status: Status, final_reason: Reason
) -> None:
    result = RunResult(reason=reason, exit_code=exit_code)
    run = end(a_run(), result, elapsed=2.0, stop=None if stopped is None else Stop(stopped))
    assert (run.status, run.reason, run.exit_code) == (status, final_reason, exit_code)
    assert (run.duration_ms, run.finished_at) == (2000, NOW + timedelta(seconds=2))
    assert (run.error is None) == (final_reason is reason)


def test_artifacts_get_names_fit_for_json() -> None:
    artifacts = (RunArtifact("grün", 1, "file"), RunArtifact("caf\udce9", 2, "file"))
    run = end(a_run(), RunResult(reason=Reason.EXIT, exit_code=0, artifacts=artifacts), elapsed=1)
    assert [artifact.path for artifact in run.artifacts] == ["grün", "caf%E9"]


def test_very_many_artifacts_are_kept_in_little_room_and_read_the_same() -> None:
    artifacts = tuple(
        RunArtifact(f"out/nested/folder/file-{number}.txt", number, "file") for number in range(50_000)
    )
    tracemalloc.start()
    listing = packed(artifacts)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used < 1_000_000
    assert tuple(listing) == artifacts
    assert (len(listing), listing[7], listing[-1]) == (50_000, artifacts[7], artifacts[-1])
    assert packed(artifacts) == listing
    assert packed(artifacts[1:]) != listing
    assert packed(artifacts[:3]) == artifacts[:3]


def test_a_run_that_never_began_has_no_duration() -> None:
    run = end(a_run(Q), RunResult(reason=Reason.CANCELLED), elapsed=1.0)
    assert (run.started_at, run.duration_ms, run.finished_at) == (None, None, NOW + timedelta(seconds=1))


def test_a_run_never_ends_before_it_began() -> None:
    run = end(a_run(), RunResult(reason=Reason.EXIT, exit_code=0), elapsed=-3600)
    assert (run.finished_at, run.duration_ms) == (NOW, 0)


def test_a_request_shows_nothing_that_must_not_be_logged() -> None:
    spec = RunSpec(image="i", env={"A": "canary"}, stdin=b"canary", files={"canary": "canary"})
    request = RunRequest(
        spec=spec, callback_url="http://canary", callback_secret="canary" * 3, body_digest="d"
    )
    assert "canary" not in repr(request)
