"""A run as JSON: the run state of the HTTP contract, whole or streamed with its logs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from light_run.engine.spec import ExtractResult, Progress, RunArtifact, RunTimings, RunUsage
from light_run.runs.model import CallbackState, RunRecord, Status
from light_run.runs.ports import LinePort
from light_run.runs.split_output import split_fields

# Characters of log a chunk carries: few enough to stay small, enough to be quick.
CHUNK = 1 << 16
_TOLD = frozenset({"status", "reason", "exitCode", "signal", "durationMs", "timings", "usage"})


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-04-20T10:00:00.000Z``."""
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run_state(run: RunRecord, *, callback: bool = True, request: bool = False) -> dict[str, Any]:
    """The run state of `run` without its logs, fit for ``json.dumps``.

    What a run does not have (an exit code, artifacts, an error, ...) is left out. A `callback` body
    leaves out how its own delivery goes. With `request`, the state has what was asked for, when and by whom.
    """
    running = run.status is Status.RUNNING
    state = {
        "id": run.id,
        **(_request(run) if request else {}),
        "status": str(run.status),
        "phase": str(run.phase) if running and run.phase else None,
        "progress": _progress(run.progress) if running and run.progress else None,
        # A client of the contract reads this of every run, also of one that still waits.
        "startedAt": timestamp(run.started_at or run.created_at),
        "finishedAt": run.finished_at and timestamp(run.finished_at),
        "exitCode": run.exit_code,
        "signal": run.signal,
        "durationMs": run.duration_ms,
        "artifacts": [_artifact(artifact) for artifact in run.artifacts] or None,
        "artifactsEvicted": run.artifacts_evicted or None,
        "error": run.error,
        "reason": run.reason and str(run.reason),
        "extracted": [_extracted(entry) for entry in run.extracted] or None,
        "timings": run.timings and _timings(run.queued_ms, run.timings),
        "usage": _usage(run.usage) or None,
        "parked": run.parked if run.started_at and run.ended else None,
        "logsTruncated": run.logs_truncated or None,
        "callback": run.callback and _callback(run.callback) if callback else None,
        "labels": dict(run.labels) or None,
    }
    return {name: value for name, value in state.items() if value is not None}


def stream_state(run: RunRecord, lines: Iterable[LinePort], *, callback: bool = True) -> Iterator[bytes]:
    """The whole run state of `run` as JSON in UTF-8, `lines` as its ``logs``; memory stays flat."""
    head = json.dumps(run_state(run, callback=callback), ensure_ascii=False)
    pending = _encode(head[:-1] + ', "logs": [')
    separator = ""
    for texts in _batches(lines):
        for piece in _pieces(texts):
            yield pending
            pending = _encode(separator + piece)
            separator = ""
        separator = ", "
    yield pending + b"]}"


def stream_split_state(run: RunRecord, log: Path, *, callback: bool = True) -> Iterator[bytes]:
    """The whole run state of `run` as JSON in UTF-8, with ``stdout`` and ``stderr`` from the spool at `log`."""
    yield _encode(json.dumps(run_state(run, callback=callback), ensure_ascii=False)[:-1] + ", ")
    yield from split_fields(log, ended=run.ended)
    yield b"}"


def server_timing(run: RunRecord) -> str:
    """The value of a Server-Timing header with what `run` spent its time on; empty where it has not ended."""
    if run.timings is None:
        return ""
    timings = _timings(run.queued_ms, run.timings)
    return ", ".join(f"{name.removesuffix('Ms')};dur={value}" for name, value in timings.items())


def _batches(lines: Iterable[LinePort]) -> Iterator[list[str]]:
    texts: list[str] = []
    size = 0
    for line in lines:
        text = line.text
        if len(text) > CHUNK and texts:
            yield texts
            texts, size = [], 0
        texts.append(text)
        # Quotes, comma and space count too: ten million empty lines are not small.
        size += len(text) + 4
        if size >= CHUNK:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _pieces(texts: list[str]) -> Iterator[str]:
    # One line may be as long as all that is kept; it is not copied whole for each step of its encoding.
    if len(texts) > 1 or len(texts[0]) <= CHUNK:
        yield json.dumps(texts, ensure_ascii=False)[1:-1]
        return
    yield '"'
    for start in range(0, len(texts[0]), CHUNK):
        yield json.dumps(texts[0][start : start + CHUNK], ensure_ascii=False)[1:-1]
    yield '"'


def _encode(text: str) -> bytes:
    # A lone surrogate (an engine's odd message) is no reason to answer with an error.
    return text.encode("utf-8", "replace")


def _artifact(artifact: RunArtifact) -> dict[str, Any]:
    return {"path": artifact.path, "bytes": artifact.bytes, "type": artifact.type}


def _progress(progress: Progress) -> dict[str, int]:
    if progress.layers is None:
        return {"steps": progress.steps or 0, "done": progress.done}
    return {
        "layers": progress.layers,
        "done": progress.done,
        "currentBytes": progress.current_bytes,
        "totalBytes": progress.total_bytes,
    }


def _extracted(entry: ExtractResult) -> dict[str, Any]:
    state = {"path": entry.path, "status": entry.status, "bytes": entry.bytes}
    return state if entry.error is None else {**state, "error": entry.error}


def _timings(queued_ms: float, timings: RunTimings) -> dict[str, float]:
    return {
        "queuedMs": round(queued_ms, 1),
        "imageMs": round(timings.image, 1),
        "startMs": round(timings.start, 1),
        "runMs": round(timings.run, 1),
        "extractMs": round(timings.extract, 1),
    }


def _usage(usage: RunUsage) -> dict[str, int]:
    found = {
        "cpuMs": usage.cpu_ms,
        "memoryPeakBytes": usage.memory_peak_bytes,
        "oomKills": usage.oom_kills,
        "diskBytes": usage.disk_bytes,
    }
    return {name: value for name, value in found.items() if value is not None}


def _request(run: RunRecord) -> dict[str, Any]:
    # A run that 0.3 kept has none.
    asked = json.loads(run.asked) or None
    return {"createdAt": timestamp(run.created_at), "owner": run.owner, "request": asked}


def _callback(callback: CallbackState) -> dict[str, Any]:
    due = callback.next_attempt_at
    return {
        "state": str(callback.state),
        "attempts": callback.attempts,
        "lastStatus": callback.last_status,
        "nextAttemptAt": None if due is None else timestamp(due),
    }


def progress_fields(run: RunRecord) -> dict[str, Any]:
    """What the server's log says of the end of `run`: nothing that the run itself wrote."""
    return {"run": run.id, **{name: value for name, value in run_state(run).items() if name in _TOLD}}
