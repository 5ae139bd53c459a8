"""Runs and specs as the text that the journal keeps."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

from light_run.engine.spec import (
    ExtractResult,
    Limits,
    Reason,
    RegistryAuth,
    RunArtifact,
    RunSpec,
    RunTimings,
    RunUsage,
)
from light_run.runs.artifact_list import packed
from light_run.runs.model import CallbackState, Delivery, RunRecord, Status

_LIMITS_OF_0_3 = ("memory", "cpus", "pids")


def encode_run(run: RunRecord) -> str:
    """`run` as JSON; its callback is kept apart, what it is doing right now is not kept."""
    timings = run.timings
    return _dump(
        {
            "id": run.id,
            "status": run.status.value,
            "created_at": run.created_at.isoformat(),
            "detached": run.detached,
            "owner": run.owner,
            "asked": run.asked,
            "started_at": _moment(run.started_at),
            "finished_at": _moment(run.finished_at),
            "exit_code": run.exit_code,
            "duration_ms": run.duration_ms,
            "reason": run.reason and run.reason.value,
            "error": run.error,
            "artifacts": [(each.path, each.bytes, each.type) for each in run.artifacts],
            "extracted": [(each.path, each.status, each.bytes, each.error) for each in run.extracted],
            "queued_ms": run.queued_ms,
            "timings": timings and (timings.image, timings.start, timings.run, timings.extract),
            "usage": asdict(run.usage),
            "signal": run.signal,
            "logs_truncated": run.logs_truncated,
            "parked": run.parked,
            **({"split_output": True} if run.split_output else {}),
            **({"artifacts_evicted": True} if run.artifacts_evicted else {}),
            **({} if run.paused_at is None else {"paused_at": _moment(run.paused_at)}),
            **({} if run.trace is None else {"trace": run.trace}),
            **({"labels": dict(run.labels)} if run.labels else {}),
        }
    )


def decode_run(text: str, callback: str | None) -> RunRecord:
    """The run that `encode_run` and `encode_callback` wrote. Raises ValueError, KeyError, TypeError for others."""
    kept = json.loads(text)
    timings = kept.pop("timings")
    if timings is not None:
        image, start, run, extract = timings
        timings = RunTimings(image=image, start=start, run=run, extract=extract)
    return RunRecord(
        id=kept.pop("id"),
        status=Status(kept.pop("status")),
        created_at=datetime.fromisoformat(kept.pop("created_at")),
        started_at=_parse_moment(kept.pop("started_at")),
        finished_at=_parse_moment(kept.pop("finished_at")),
        paused_at=_parse_moment(kept.pop("paused_at", None)),
        reason=_parse_reason(kept.pop("reason")),
        artifacts=packed([RunArtifact(*each) for each in kept.pop("artifacts")]),
        extracted=tuple(ExtractResult(*each) for each in kept.pop("extracted")),
        timings=timings,
        # 0.3 wrote none.
        usage=RunUsage(**kept.pop("usage", {})),
        callback=None if callback is None else decode_callback(callback),
        **kept,
    )


def encode_callback(callback: CallbackState) -> str:
    """`callback` as JSON."""
    return _dump(
        [callback.state.value, callback.attempts, callback.last_status, _moment(callback.next_attempt_at)]
    )


def decode_callback(text: str) -> CallbackState:
    """What `encode_callback` wrote."""
    state, attempts, last_status, next_attempt_at = json.loads(text)
    return CallbackState(Delivery(state), attempts, last_status, _parse_moment(next_attempt_at))


def encode_spec(spec: RunSpec) -> str:
    """`spec` as JSON, without its files, which are staged, its stdin, which is bytes, and its `registry_auth`."""
    limits = spec.limits
    return _dump(
        {
            "image": spec.image,
            "entrypoint": spec.entrypoint,
            "steps": spec.steps,
            "timeout": spec.timeout,
            "step_timeout": spec.step_timeout,
            "network": spec.network,
            "workdir": spec.workdir,
            "env": dict(spec.env),
            "extract": spec.extract,
            "limits": limits and asdict(limits),
            "runtime": spec.runtime,
            "pull": spec.pull,
            "owner": spec.owner,
            "networks": spec.networks,
            "user": spec.user,
            # That there were some: a pull without them would fail in other words.
            "registry_auth": spec.registry_auth is not None,
            **({"interactive": True} if spec.interactive else {}),
            **({} if spec.platform is None else {"platform": spec.platform}),
        }
    )


def decode_spec(text: str, stdin: bytes | None, run: str) -> RunSpec:
    """The spec that `encode_spec` wrote, with its `stdin`, of the run that `encode_run` wrote as `run`."""
    kept = json.loads(text)
    # A spec that 0.3 wrote names no owner.
    kept.setdefault("owner", json.loads(run)["owner"] or "")
    limits = kept.pop("limits")
    if limits is not None:
        # 0.3 wrote the first three in a list.
        limits = Limits(
            **(limits if isinstance(limits, dict) else dict(zip(_LIMITS_OF_0_3, limits, strict=True)))
        )
    networks = tuple(kept.pop("networks", ()))
    steps, extract = tuple(kept.pop("steps")), tuple(kept.pop("extract"))
    auth = RegistryAuth() if kept.pop("registry_auth", False) else None
    return RunSpec(
        stdin=stdin,
        limits=limits,
        steps=steps,
        extract=extract,
        networks=networks,
        registry_auth=auth,
        **kept,
    )


def _dump(kept: Any) -> str:
    return json.dumps(kept, separators=(",", ":"))


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _parse_moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _parse_reason(text: str | None) -> Reason | None:
    return None if text is None else Reason(text)
