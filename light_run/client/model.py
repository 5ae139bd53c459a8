"""What a server says, as typed values; the words are those of the HTTP contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeVar

from light_run.errors import ClientError

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stream = Literal["stdout", "stderr"]

ENDED = frozenset({"succeeded", "failed", "cancelled"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file or directory that a run left; `bytes` is 0 for a directory."""

    path: str
    bytes: int
    type: Literal["file", "directory"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of one path that was to be extracted: `status` is ``ok``, ``missing`` or ``error``."""

    path: str
    status: Literal["ok", "missing", "error"]
    bytes: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of output without its newline; `seq` is its place among the run's lines."""

    seq: int
    time: datetime
    stream: Stream
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """What a server is like.

    `docker` is True where its engine answers, `engine` what that calls itself. `workspace` is ``bind`` or
    ``archive``, None until it is known. `runtimes` are those that a run may ask for,
    `missing_limits` what the engine cannot hold runs to, for which it starts none, `disk_free` and
    `disk_total` bytes where it keeps what it keeps, `scopes` what the token at hand may do;
    `open` says that everybody may do everything, without one.
    """

    version: str
    docker: bool
    engine: str | None = None
    workspace: str | None = None
    runtimes: tuple[str, ...] = ()
    missing_limits: tuple[str, ...] = ()
    disk_free: int = 0
    disk_total: int = 0
    token: str | None = None
    scopes: tuple[str, ...] = ()
    open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run at one moment. Times are UTC, `timings` milliseconds by step, `usage` counts such as ``oomKills``.

    `exit_code` is None where the command has not ended by itself; `error` is one sentence where it did not
    simply exit. `logs` are the lines so far, of a run that was asked for by its id; lists leave them out.
    `phase` and `progress` say what a run that has not ended is doing. `state` is what the server sent.
    """

    id: str
    status: Status
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    reason: str | None = None
    error: str | None = None
    logs: tuple[str, ...] = field(default=(), repr=False)
    logs_truncated: bool = False
    artifacts: tuple[Artifact, ...] = ()
    extracted: tuple[Extracted, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    phase: str | None = None
    progress: Any = None
    state: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """True once it has succeeded, failed or been cancelled."""
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        """True for exit code 0 within the time."""
        return self.status == "succeeded"


def run(state: Any) -> Run:
    """The run that `state`, a run state of the HTTP contract, is about. Raises `ClientError`."""
    return _read(_run, state, "run state")


def artifact(entry: Any) -> Artifact:
    """The artifact that `entry` is about. Raises `ClientError`."""
    return _read(
        lambda each: Artifact(str(each["path"]), int(each["bytes"]), each["type"]), entry, "artifact"
    )


def array(found: Any) -> list[Any]:
    """`found`, if it is an array. Raises `ClientError`."""
    if not isinstance(found, list):
        raise ClientError("the server's answer is no array")
    return found


def log_line(found: Any) -> LogLine:
    """The line that `found` is about. Raises `ClientError`."""
    return _read(
        lambda each: LogLine(int(each["seq"]), _moment(each["time"]), each["stream"], str(each["text"])),
        found,
        "line of a log",
    )


def info(found: Any) -> Info:
    """What `found`, the answer of ``GET /info``, says. Raises `ClientError`."""
    return _read(_info, found, "description of a server")


def _read(make: Callable[[Any], T], found: Any, what: str) -> T:
    try:
        return make(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ClientError(f"the server's answer is no {what}: {error!r}") from error


def _run(state: Mapping[str, Any]) -> Run:
    return Run(
        id=str(state["id"]),
        status=state["status"],
        started_at=_moment(state["startedAt"]) if "startedAt" in state else None,
        finished_at=_moment(state["finishedAt"]) if "finishedAt" in state else None,
        exit_code=state.get("exitCode"),
        duration_ms=state.get("durationMs"),
        reason=state.get("reason"),
        error=state.get("error"),
        logs=tuple(state.get("logs", ())),
        logs_truncated=bool(state.get("logsTruncated")),
        artifacts=tuple(artifact(each) for each in state.get("artifacts", ())),
        extracted=tuple(_extracted(each) for each in state.get("extracted", ())),
        timings=dict(state.get("timings", {})),
        usage=dict(state.get("usage", {})),
        phase=state.get("phase"),
        progress=state.get("progress"),
        state=state,
    )


def _info(found: Mapping[str, Any]) -> Info:
    engine, disk, token = found.get("engine") or {}, found.get("disk") or {}, found.get("token") or {}
    return Info(
        version=str(found["version"]),
        docker=bool(found["docker"]),
        engine=engine.get("name"),
        workspace=found.get("workspace"),
        runtimes=tuple(engine.get("runtimes", ())),
        missing_limits=tuple(engine.get("missingLimits", ())),
        disk_free=int(disk["freeBytes"]),
        disk_total=int(disk["totalBytes"]),
        token=token.get("name"),
        scopes=tuple(token.get("scopes", ())),
        open=not token.get("required", True),
    )


def _extracted(entry: Mapping[str, Any]) -> Extracted:
    return Extracted(entry["path"], entry["status"], entry.get("bytes", 0), entry.get("error"))


def _moment(text: str) -> datetime:
    # Python 3.10 does not know the Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
