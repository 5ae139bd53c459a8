"""The Docker SDK of light-run: run a hardened container, files in, output and files out; no HTTP needed."""

from light_run.engine.config import DROPPED_CAPABILITIES, RunnerConfig
from light_run.engine.handle import RunHandle
from light_run.engine.output.lines import OutputLine, read_log
from light_run.engine.runner import Runner
from light_run.engine.spec import (
    Destinations,
    EngineHealth,
    ExtractResult,
    File,
    Limits,
    MaintenanceReport,
    NetworkSpec,
    Observer,
    Phase,
    Progress,
    Reason,
    RegistryAuth,
    RunArtifact,
    RunResult,
    RunSpec,
    RunTimings,
    RunUsage,
)
from light_run.engine.stop import Stop, StopRequest
from light_run.engine.upkeep.inventory import OwnContainer

__all__ = [
    "DROPPED_CAPABILITIES",
    "Destinations",
    "EngineHealth",
    "ExtractResult",
    "File",
    "Limits",
    "MaintenanceReport",
    "NetworkSpec",
    "Observer",
    "OutputLine",
    "OwnContainer",
    "Phase",
    "Progress",
    "Reason",
    "RegistryAuth",
    "RunArtifact",
    "RunHandle",
    "RunResult",
    "RunSpec",
    "RunTimings",
    "RunUsage",
    "Runner",
    "RunnerConfig",
    "Stop",
    "StopRequest",
    "read_log",
]
