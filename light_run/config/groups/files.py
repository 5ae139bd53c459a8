"""Files and output of runs, and parked containers."""

from __future__ import annotations

from dataclasses import dataclass

from light_run.config import readers
from light_run.config.variables import MIB, setting

_NO_PINS: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """Files and output of runs, and parked containers."""

    extract_limit: int = setting(1024 * MIB, readers.size(0), "maximum bytes of one `extract` entry")
    extract_entries: int = setting(
        100_000, readers.integer(1, 10_000_000), "maximum number of files and folders in a run's artifacts"
    )
    max_workspace_bytes: int = setting(
        10 * 1024 * MIB,
        readers.size(0),
        "maximum bytes of a run's files and everything it writes; 0 is no limit",
    )
    min_free_bytes: int = setting(
        256 * MIB,
        readers.size(0),
        "free bytes of a disk below which the run that has written the most to it is ended; 0 ends none",
    )
    log_limit: int = setting(10 * MIB, readers.size(0), "maximum bytes of output kept for each run")
    workspace: str = setting(
        "auto",
        readers.choice("auto", "bind", "archive"),
        "how files are passed to containers and back: auto, bind or archive",
    )
    parked: tuple[tuple[str, int], ...] = setting(
        _NO_PINS, readers.pins, "images to keep parked containers for, such as alpine:3.19=2", shown="none"
    )
    parked_max: int = setting(
        4, readers.integer(0, 1000), "maximum number of parked containers; 0 disables parking"
    )
    parked_idle: float = setting(
        300.0,
        readers.seconds(1, 604_800),
        "seconds before an unused parked container is removed",
        shown="300",
    )
    accel: str | None = setting(
        None,
        readers.prefix,
        "path of nginx's internal location for artifacts (X-Accel-Redirect)",
        shown="unset: the server sends files itself",
    )
