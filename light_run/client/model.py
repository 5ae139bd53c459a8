"""The server's responses as typed values. Names and words are those of the HTTP API."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from light_run.errors import ClientError

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stream = Literal["stdout", "stderr"]

ENDED = frozenset({"succeeded", "failed", "cancelled"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact of a run, a file or directory; `bytes` is 0 for a directory."""

    path: str
    bytes: int
    type: Literal["file", "directory"]


@dataclass(frozen=True, slots=True)
class Extracted:
    """The result for one path of `extract`: `status` is ``ok``, ``missing`` or ``error``."""

    path: str
    status: Literal["ok", "missing", "error"]
    bytes: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of output without its newline; `seq` is its number among the run's lines."""

    seq: int
    time: datetime
    stream: Stream
    text: str


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """Bytes that a run wrote to `stream`, exactly as they are; a piece ends anywhere."""

    stream: Stream
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """What maintenance removed. `at` is when it began (UTC).

    `cache_images` are cached images of steps, `dangling_images` such images without a name, `freed_bytes` their size
    without the images that they were built on. `failed` names the parts that could not be done.
    """

    at: datetime
    duration_ms: int = 0
    containers: int = 0
    workspaces: int = 0
    cache_images: int = 0
    dangling_images: int = 0
    freed_bytes: int = 0
    networks: int = 0
    failed: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


class ServerFinding(NamedTuple):
    """The result of one check of the server: its level is ``ok``, ``warn`` or ``fail``, `fix` is empty if it is ok."""

    check: str
    level: str
    summary: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The description of a server.

    `docker` is True if the container engine responds, `engine` is the engine's name and `engine_address` the URL
    at which the server uses it. `workspace` is ``bind`` or ``archive``, or None until it is known. `runtimes` are the
    runtimes that a run can use. `missing_limits` are limits that the engine cannot enforce; if there are any, the
    server starts no runs unless it is configured to. `firewall` is ``active`` if the rules were seen that keep runs on
    the default network from the engine's host, else ``absent`` or ``not_needed``, or None if it is not known.
    `disk_free` and `disk_total` are bytes on the disk of the artifacts; `disk_guards` are what keeps runs from filling
    it: ``size``, ``unlinked``, ``free_space``, ``quota``. `maintenance` is None before the first.
    `token` and `scopes` are the name and the scopes of the token in use. `open` is True if the server requires no
    token. `findings` are what the server checked of itself; a server older than 0.4 has none.
    """

    version: str
    docker: bool
    engine: str | None = None
    engine_address: str | None = None
    workspace: str | None = None
    runtimes: tuple[str, ...] = ()
    missing_limits: tuple[str, ...] = ()
    firewall: str | None = None
    disk_free: int = 0
    disk_total: int = 0
    disk_guards: tuple[str, ...] = ()
    maintenance: Maintenance | None = None
    token: str | None = None
    scopes: tuple[str, ...] = ()
    open: bool = False
    findings: tuple[ServerFinding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The state of a run at one moment. Times are UTC, `timings` are milliseconds for each step.

    `usage` has ``cpuMs``, ``memoryPeakBytes``, ``diskBytes`` and ``oomKills``, as far as they are known. `signal` is
    the name of the one that killed the command. `artifacts_evicted` is True if the server has deleted the artifacts to
    make room.

    `exit_code` is None if the command did not exit on its own, and `error` is a sentence that says why. `logs` are
    the lines so far; lists of runs omit them. `phase` and `progress` describe what a run is doing before it ends.
    `labels` are those of the request.
    `stdout` and `stderr` are the exact bytes, in place of `logs`, if `output` is ``split``. `state` is the
    JSON that the server sent.
    """

    id: str
    status: Status
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    signal: str | None = None
    reason: str | None = None
    error: str | None = None
    logs: tuple[str, ...] = field(default=(), repr=False)
    stdout: bytes | None = field(default=None, repr=False)
    stderr: bytes | None = field(default=None, repr=False)
    logs_truncated: bool = False
    artifacts: tuple[Artifact, ...] = ()
    artifacts_evicted: bool = False
    extracted: tuple[Extracted, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    usage: Mapping[str, int] = field(default_factory=dict)
    phase: str | None = None
    progress: Any = None
    labels: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def ended(self) -> bool:
        """True if the run has succeeded, failed or been cancelled."""
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        """True if the command exited with code 0 before its timeout."""
        return self.status == "succeeded"


def run(state: Any) -> Run:
    """Parse a run state of the HTTP API. Raises `ClientError`."""
    return _parse(_run, state, "run state")


def artifact(entry: Any) -> Artifact:
    """Parse an entry of a list of artifacts. Raises `ClientError`."""
    return _parse(
        lambda each: Artifact(str(each["path"]), int(each["bytes"]), each["type"]), entry, "artifact"
    )


def array(found: Any) -> list[Any]:
    """Return `found` if it is a JSON array. Raises `ClientError`."""
    if not isinstance(found, list):
        raise ClientError("the server's response is not a JSON array")
    return found


def log_line(found: Any) -> LogLine:
    """Parse a log line. Raises `ClientError`."""
    return _parse(
        lambda each: LogLine(int(each["seq"]), _moment(each["time"]), each["stream"], str(each["text"])),
        found,
        "log line",
    )


def info(found: Any) -> Info:
    """Parse the response of ``GET /info``. Raises `ClientError`."""
    return _parse(_info, found, "server description")


def maintenance(found: Any) -> Maintenance:
    """Parse the response of ``POST /maintenance``. Raises `ClientError`."""
    return _parse(_maintenance, found, "maintenance report")


def _parse(make: Callable[[Any], T], found: Any, what: str) -> T:
    try:
        return make(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ClientError(f"the server's response is not a valid {what}: {error!r}") from error


def _run(state: Mapping[str, Any]) -> Run:
    return Run(
        id=str(state["id"]),
        status=state["status"],
        started_at=_moment(state["startedAt"]) if "startedAt" in state else None,
        finished_at=_moment(state["finishedAt"]) if "finishedAt" in state else None,
        exit_code=state.get("exitCode"),
        duration_ms=state.get("durationMs"),
        signal=state.get("signal"),
        reason=state.get("reason"),
        error=state.get("error"),
        logs=tuple(state.get("logs", ())),
        stdout=_output(state.get("stdout")),
        stderr=_output(state.get("stderr")),
        logs_truncated=bool(state.get("logsTruncated")),
        artifacts=tuple(artifact(each) for each in state.get("artifacts", ())),
        artifacts_evicted=bool(state.get("artifactsEvicted")),
        extracted=tuple(_extracted(each) for each in state.get("extracted", ())),
        timings=dict(state.get("timings", {})),
        usage=dict(state.get("usage", {})),
        phase=state.get("phase"),
        progress=state.get("progress"),
        labels=dict(state.get("labels", {})),
        state=state,
    )


def _output(found: Any) -> bytes | None:
    if isinstance(found, Mapping):
        return base64.b64decode(found["content"])
    return None if found is None else str(found).encode()


def _info(found: Mapping[str, Any]) -> Info:
    engine, disk, token = found.get("engine") or {}, found.get("disk") or {}, found.get("token") or {}
    return Info(
        version=str(found["version"]),
        docker=bool(found["docker"]),
        engine=engine.get("name"),
        engine_address=engine.get("address"),
        workspace=found.get("workspace"),
        runtimes=tuple(engine.get("runtimes", ())),
        missing_limits=tuple(engine.get("missingLimits", ())),
        firewall=found.get("firewall"),
        disk_free=int(disk["freeBytes"]),
        disk_total=int(disk["totalBytes"]),
        disk_guards=tuple(disk.get("guards", ())),
        maintenance=_maintenance(found["maintenance"]) if found.get("maintenance") else None,
        token=token.get("name"),
        scopes=tuple(token.get("scopes", ())),
        open=not token.get("required", True),
        findings=tuple(
            ServerFinding(each["check"], each["level"], each["summary"], each["fix"])
            for each in found.get("findings", ())
        ),
    )


def _maintenance(report: Mapping[str, Any]) -> Maintenance:
    return Maintenance(
        at=_moment(report["at"]),
        duration_ms=int(report["durationMs"]),
        containers=int(report["containers"]),
        workspaces=int(report["workspaces"]),
        cache_images=int(report["cacheImages"]),
        dangling_images=int(report["danglingImages"]),
        freed_bytes=int(report["freedBytes"]),
        networks=int(report["networks"]),
        failed=tuple(report["failed"]),
        report=report,
    )


def _extracted(entry: Mapping[str, Any]) -> Extracted:
    return Extracted(entry["path"], entry["status"], entry.get("bytes", 0), entry.get("error"))


def _moment(text: str) -> datetime:
    # Python 3.10 does not parse the suffix Z.
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
