"""The Docker SDK of light-run: run a hardened container, files in, output and files out; no HTTP needed."""

from light_run.engine.cancel import CancelToken
from light_run.engine.config import DROPPED_CAPABILITIES, RunnerConfig
from light_run.engine.inventory import Found
from light_run.engine.output import LogLine, read_log
from light_run.engine.runner import Runner
from light_run.engine.spec import (
    Artifact,
    Destinations,
    Extracted,
    File,
    Health,
    Limits,
    Observer,
    Phase,
    Progress,
    Reason,
    RunResult,
    RunSpec,
    Timings,
)

__all__ = [
    "DROPPED_CAPABILITIES",
    "Artifact",
    "CancelToken",
    "Destinations",
    "Extracted",
    "File",
    "Found",
    "Health",
    "Limits",
    "LogLine",
    "Observer",
    "Phase",
    "Progress",
    "Reason",
    "RunResult",
    "RunSpec",
    "Runner",
    "RunnerConfig",
    "Timings",
    "read_log",
]
