"""Where the server keeps its data, and how much work it takes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from light_run.config import readers
from light_run.config.variables import MIB, setting


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where the server keeps its data, and how much work it takes on."""

    state_dir: Path = setting(
        Path("~/.light-run"), readers.path, "folder of the server's data", option="--state-dir"
    )
    artifacts_dir: Path = setting(
        None,
        readers.path,
        "folder of the artifacts",
        shown="artifacts in LIGHT_RUN_STATE_DIR: ~/.light-run/artifacts",
        option="--artifacts-dir",
    )
    max_artifacts_bytes: int = setting(
        20 * 1024 * MIB,
        readers.size(0),
        "maximum bytes of all artifacts on disk; the oldest of the token with the most are deleted first",
        lenient=True,
    )
    max_artifacts_files: int = setting(
        2_000_000, readers.integer(1, 1_000_000_000), "maximum number of files and folders in all artifacts"
    )
    max_concurrency: int = setting(
        8, readers.integer(1, 10_000), "maximum number of runs at the same time", option="--max-concurrency"
    )
    threads: int = setting(
        64,
        readers.integer(4, 1000),
        "request threads; sync runs use at most three quarters of them",
        option="--threads",
    )
    max_followers: int = setting(
        100,
        readers.integer(0, 10_000),
        "maximum number of clients that follow a log, besides the request threads",
    )
    max_queue: int = setting(
        1000, readers.integer(0, 1_000_000), "maximum number of queued runs; more get 503"
    )
