"""The run state as JSON."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

import pytest

from light_run.engine.spec import ExtractResult, Phase, Progress, Reason, RunArtifact, RunTimings, RunUsage
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status
from light_run.runs.presentation import CHUNK, run_state, server_timing, stream_state, timestamp

NOW = datetime(2026, 4, 20, 10, tzinfo=timezone.utc)
FULL = RunRecord(
    id="r",
    status=Status.FAILED,
    created_at=NOW,
    started_at=NOW + timedelta(milliseconds=5),
    finished_at=NOW + timedelta(seconds=1),
    exit_code=0,
    duration_ms=0,
    reason=Reason.OUT_OF_MEMORY,
    error="out of memory",
    artifacts=(RunArtifact("d/caf%E9", 3, "file"), RunArtifact("grün", 0, "directory")),
    extracted=(ExtractResult("d", "ok", 3), ExtractResult("x", "error", 0, "too big")),
    queued_ms=1.26,
    timings=RunTimings(image=2, start=3.333, run=4, extract=5),
    usage=RunUsage(cpu_ms=12, memory_peak_bytes=4096, oom_kills=1, disk_bytes=8192),
    signal="SIGKILL",
    logs_truncated=True,
    callback=CallbackState(Delivery.PENDING, 2, 503, NOW),
)


@dataclass
class Line:
    text: str
    seq: int = 0
    time: int = 0
    stream: str = "stdout"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2026-04-20T10:00:00.000Z"),
        (NOW + timedelta(microseconds=1999), "2026-04-20T10:00:00.001Z"),
        (NOW.astimezone(timezone(timedelta(hours=2))), "2026-04-20T10:00:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(moment: datetime, text: str) -> None:
    assert timestamp(moment) == text


def test_a_run_that_waits_shows_only_what_it_has() -> None:
    run = RunRecord(
        id="r", status=Status.QUEUED, created_at=NOW, phase=Phase.PULLING, detached=True, owner="o"
    )
    assert run_state(run) == {"id": "r", "status": "queued", "startedAt": "2026-04-20T10:00:00.000Z"}


@pytest.mark.parametrize(
    ("phase", "progress", "shown"),
    [
        (None, None, {}),
        (Phase.STARTING, None, {"phase": "starting"}),
        (
            Phase.BUILDING,
            Progress(steps=3, done=0),
            {"phase": "building", "progress": {"steps": 3, "done": 0}},
        ),
        (
            Phase.PULLING,
            Progress(layers=0, done=0),
            {
                "phase": "pulling",
                "progress": {"layers": 0, "done": 0, "currentBytes": 0, "totalBytes": 0},
            },
        ),
        (
            Phase.PULLING,
            Progress(layers=4, done=1, current_bytes=5, total_bytes=9),
            {
                "phase": "pulling",
                "progress": {"layers": 4, "done": 1, "currentBytes": 5, "totalBytes": 9},
            },
        ),
    ],
)
def test_a_run_under_way_says_what_it_is_doing(
    phase: Phase | None, progress: Progress | None, shown: dict[str, object]
) -> None:
    run = RunRecord(id="r", status=Status.RUNNING, created_at=NOW, phase=phase, progress=progress)
    known = {"id": "r", "status": "running", "startedAt": "2026-04-20T10:00:00.000Z"}
    assert run_state(run) == {**known, **shown}
    # It says nothing of that in any other state.
    for status in set(Status) - {Status.RUNNING}:
        assert not {"phase", "progress"} & set(run_state(replace(run, status=status)))


def test_a_run_that_ended_shows_everything() -> None:
    assert run_state(FULL) == {
        "id": "r",
        "status": "failed",
        "startedAt": "2026-04-20T10:00:00.005Z",
        "finishedAt": "2026-04-20T10:00:01.000Z",
        "exitCode": 0,
        "durationMs": 0,
        "artifacts": [
            {"path": "d/caf%E9", "bytes": 3, "type": "file"},
            {"path": "grün", "bytes": 0, "type": "directory"},
        ],
        "error": "out of memory",
        "reason": "out_of_memory",
        "extracted": [
            {"path": "d", "status": "ok", "bytes": 3},
            {"path": "x", "status": "error", "bytes": 0, "error": "too big"},
        ],
        "timings": {"queuedMs": 1.3, "imageMs": 2, "startMs": 3.3, "runMs": 4, "extractMs": 5},
        "usage": {"cpuMs": 12, "memoryPeakBytes": 4096, "oomKills": 1, "diskBytes": 8192},
        "signal": "SIGKILL",
        "parked": False,
        "logsTruncated": True,
        "callback": {
            "state": "pending",
            "attempts": 2,
            "lastStatus": 503,
            "nextAttemptAt": "2026-04-20T10:00:00.000Z",
        },
    }


def test_a_callback_body_says_nothing_of_its_own_delivery() -> None:
    assert "callback" not in run_state(FULL, callback=False)
    assert b'"callback"' not in b"".join(stream_state(FULL, [], callback=False))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["a", "", 'quote " backslash \\ control \x00\x1b', "grün 🎉", "\u2028"],
        ["x" * (CHUNK * 3), "y"],
        ["line"] * 50_000,
    ],
)
def test_the_stream_is_the_state_with_its_logs(texts: list[str]) -> None:
    body = b"".join(stream_state(FULL, [Line(text) for text in texts]))
    assert json.loads(body) == {**run_state(FULL), "logs": texts}


def test_what_is_no_text_becomes_a_question_mark() -> None:
    body = b"".join(stream_state(FULL, [Line("a\udcffb")]))
    assert json.loads(body)["logs"] == ["a?b"]


def test_a_stream_of_ten_million_bytes_is_quick_and_flat() -> None:
    def lines() -> Iterator[Line]:
        line = Line("x")
        for _ in range(5 * 1024 * 1024):
            yield line

    # The processor's time: what else runs on the machine does not count.
    begun = time.process_time()
    largest = max(len(chunk) for chunk in stream_state(FULL, lines()))
    assert time.process_time() - begun < 5
    assert largest < 4 * CHUNK

    tracemalloc.start()
    for _ in stream_state(FULL, (Line("x" * 1000) for _ in range(10_000))):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_server_timing_names_every_step() -> None:
    assert server_timing(FULL) == "queued;dur=1.3, image;dur=2, start;dur=3.3, run;dur=4, extract;dur=5"
    assert server_timing(RunRecord(id="r", status=Status.RUNNING, created_at=NOW)) == ""
