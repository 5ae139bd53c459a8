"""What a run may use: memory, CPUs, processes, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from light_run.config import readers
from light_run.config.variables import MIB, setting


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What a run may use: memory, CPUs, processes, time."""

    memory: int = setting(512 * MIB, readers.size(6 * MIB), "memory of a run that sets none")
    max_memory: int | None = setting(
        None, readers.size(6 * MIB), "maximum memory a run can set", shown="as LIGHT_RUN_MEMORY"
    )
    cpus: float = setting(1.0, readers.number(0.01, 1024), "CPUs of a run that sets none")
    max_cpus: float | None = setting(
        None, readers.number(0.01, 1024), "maximum CPUs a run can set", shown="as LIGHT_RUN_CPUS"
    )
    allow_unlimited: bool = setting(
        False,
        readers.boolean,
        "start runs on an engine that cannot limit memory, CPUs, processes or system calls",
    )
    pids: int = setting(
        100, readers.integer(1, 4_194_304), "processes and threads of a run that sets no limit"
    )
    max_pids: int | None = setting(
        None,
        readers.integer(1, 4_194_304),
        "maximum processes and threads a run can set",
        shown="as LIGHT_RUN_PIDS",
    )
    shm: int | None = setting(
        None,
        readers.size(4096),
        "size of /dev/shm of a run that sets none",
        shown="the engine's, usually 64 MiB",
    )
    max_shm: int | None = setting(
        None, readers.size(4096), "maximum size of /dev/shm a run can set", shown="as LIGHT_RUN_MAX_MEMORY"
    )
    nofile: int | None = setting(
        None,
        readers.integer(64, 1_048_576),
        "open files of a process of a run; a run can set less",
        shown="the engine's",
    )
    fsize: int | None = setting(
        None, readers.size(0), "maximum bytes of a single file of a run; a run can set less", shown="no limit"
    )
    gpus: int | Literal["all"] | None = setting(
        None, readers.gpus, "GPUs a run can ask for: a number, or all", shown="none"
    )
    timeout: int = setting(
        1_200_000, readers.milliseconds(1, 86_400_000), "timeout of a run that sets none, in ms"
    )
    max_timeout: int = setting(
        3_600_000, readers.milliseconds(1, 86_400_000), "maximum timeout a run can set, in ms"
    )
    id_prefix: str | None = setting(
        None,
        readers.id_prefix,
        "prefix of run ids, which then have 12 random characters, such as light-runner-",
        shown="none: run ids are UUIDs",
    )
    max_pause: float = setting(
        3600.0,
        readers.seconds(1, 604_800),
        "seconds after which a paused run is resumed",
        shown="3600",
    )
    step_timeout: float = setting(
        1200.0,
        readers.seconds(0.1, 3600),
        "seconds for all steps of a run together; a run may ask for less",
        shown="1200",
    )
    step_images_age: float = setting(
        604_800.0,
        readers.seconds(0, 315_360_000),
        "seconds after which a cached image of run steps that is not used is removed",
        shown="604800",
    )
    step_images_bytes: int = setting(
        10 * 1024 * MIB,
        readers.size(0),
        "maximum bytes of cached images of run steps; the least recently used are removed first",
    )
    pull_timeout: float = setting(
        1200.0, readers.seconds(1, 86_400), "seconds in which a run's image has to be pulled", shown="1200"
    )
