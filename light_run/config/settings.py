"""The settings of the server, read from the environment once.

`Settings` is the single source: each field has its variable, its default, its parser and its help text. The
environment variables, the options of ``light-run serve``, the arguments of `create_app` and the table in the
documentation are derived from it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from light_run.config import profiles, readers
from light_run.config.variables import Variable, setting
from light_run.errors import SettingsError

PREFIX = "LIGHT_RUN_"
MIB = 1024 * 1024

# Variables of the client commands, which the server must not report as unknown.
_CLIENT_VARIABLES = frozenset({"LIGHT_RUN_URL"})

_NOTHING: tuple[str, ...] = ()
_NO_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = ()
_NO_PINS: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Sizes are in bytes, `timeout` and `max_timeout` in milliseconds, other times in seconds.

    `max_memory`, `max_cpus` and `max_pids` limit what a request can set; None is the same as `memory` and so on.
    `images` and `networks` are patterns; None allows all. If `network` is None, runs use the server's own bridge.
    `warnings` has a sentence for each invalid value that was replaced and each unknown variable.
    """

    port: int = setting(3000, readers.integer(1, 65535), "TCP port to listen on", option="--port")
    host: str = setting("127.0.0.1", readers.word, "address or name to listen on", option="--host")
    token: str | None = setting(
        None,
        readers.token,
        "bearer token that every route except GET /health requires",
        shown="unset: no authentication, with a warning",
        option="--token",
        secret=True,
    )
    tokens_file: Path | None = setting(
        None,
        readers.path,
        "file of named tokens, see light-run token; reloaded when it changes",
        shown="unset: only LIGHT_RUN_TOKEN",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        _NO_NETWORKS,
        readers.networks,
        "addresses of proxies whose X-Forwarded-For is trusted for counting failed logins, such as 127.0.0.1",
        shown="none",
    )
    origins: tuple[str, ...] = setting(
        _NOTHING,
        readers.origins,
        "origins whose web pages may use the server, such as https://*.example.com, or * for all",
        shown="only the server's own",
    )
    hosts: tuple[str, ...] = setting(
        _NOTHING,
        readers.hosts,
        "patterns of host names allowed for a server without a token, besides localhost and IP addresses",
        shown="none",
    )
    console: bool = setting(True, readers.boolean, "serve the console, a page at / for browsers")
    body_limit: int = setting(
        10 * MIB, readers.size(1), "maximum bytes of a request body", option="--body-limit"
    )
    upload_limit: int = setting(
        1024 * MIB,
        readers.size(1),
        "maximum bytes of a multipart body, and of its unpacked files",
        option="--upload-limit",
    )
    body_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds within which a request body must arrive; multipart bodies get one more for each 32 KiB",
        shown="60",
    )
    send_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds within which a client must read the next 64 KiB of a response",
        shown="60",
    )
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
        "maximum bytes of all artifacts on disk; the oldest of whoever has the most are deleted first",
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
    profile: str = setting(
        "default",
        readers.choice("default", *profiles.PROFILES),
        "sandbox profile: default or strict; other settings override it",
    )
    cap_drop: tuple[str, ...] = setting(
        _NOTHING,
        readers.capabilities,
        "capabilities to drop in addition to the usual ones; ALL drops every one",
        shown="none",
    )
    read_only: bool = setting(False, readers.boolean, "give runs a read-only root file system")
    user: str | None = setting(
        None, readers.user, "user of every run: name, uid or uid:gid", shown="the image's own"
    )
    users: tuple[str, ...] | None = setting(
        None,
        readers.patterns,
        "patterns of users a run can name, such as 1000:*; root must be named",
        shown="all; only LIGHT_RUN_USER if that is set",
    )
    runtime: str | None = setting(
        None, readers.name, "runtime of a run that names none", shown="the engine's default"
    )
    runtimes: tuple[str, ...] | None = setting(
        None,
        readers.names,
        "runtimes a run can name",
        shown="runc,runsc; only LIGHT_RUN_RUNTIME if that is set",
    )
    images: tuple[str, ...] | None = setting(
        None,
        readers.patterns,
        "patterns of allowed images, such as python:3.*,ghcr.io/acme/**",
        shown="all",
    )
    pull: Literal["missing", "always", "never"] = setting(
        "missing",
        readers.choice("missing", "always", "never"),
        "when to pull the image of a run by default: missing or always; never also forbids it to requests",
    )
    registries: tuple[str, ...] = setting(
        _NOTHING,
        readers.patterns,
        "patterns of registries at private addresses that named tokens can pull from, such as *.internal:5000",
        shown="none",
    )
    networks: tuple[str, ...] | None = setting(
        None, readers.patterns, "patterns of networks a run can name, such as none,team-*", shown="all"
    )
    network: str | None = setting(
        None, readers.name, "network of a run that names none", shown="the server's own isolated network"
    )
    extract_limit: int = setting(1024 * MIB, readers.size(0), "maximum bytes of one `extract` entry")
    extract_entries: int = setting(
        100_000, readers.integer(1, 10_000_000), "maximum number of files and folders in a run's artifacts"
    )
    max_workspace_bytes: int = setting(
        10 * 1024 * MIB,
        readers.size(0),
        "maximum bytes of a run's files and everything it writes; 0 is no limit",
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
    retention: float = setting(
        604_800.0, readers.seconds(0, 315_360_000), "seconds that ended runs are kept", shown="604800"
    )
    max_runs: int = setting(
        10_000,
        readers.integer(1, 1_000_000),
        "maximum number of ended runs kept; the oldest of whoever has the most are deleted first",
    )
    callback_private: bool = setting(
        True, readers.boolean, "allow callbacks to loopback and private addresses"
    )
    callback_pause: float = setting(
        2.0,
        readers.seconds(0.01, 3600),
        "seconds before the first retry of a callback, with exponential backoff",
        shown="2",
    )
    callback_lifetime: float = setting(
        86_400.0,
        readers.seconds(0, 604_800),
        "seconds after the end of a run during which its callback is retried",
        shown="86400",
    )
    sweep_interval: float = setting(
        60.0, readers.seconds(0.1, 86_400), "seconds between two checks of the artifacts' size", shown="60"
    )
    grace: float = setting(
        5.0, readers.seconds(0, 3600), "seconds that sync runs get to finish when the server stops", shown="5"
    )
    otel_debug: bool = setting(
        False,
        readers.boolean,
        "print traces to stdout, in place of sending them where OTEL_EXPORTER_OTLP_ENDPOINT says",
    )
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        state_dir = readers.expanded(self.state_dir)
        artifacts_dir = readers.expanded(self.artifacts_dir or state_dir / "artifacts")
        object.__setattr__(self, "state_dir", state_dir)
        object.__setattr__(self, "artifacts_dir", artifacts_dir)
        if self.tokens_file is not None:
            object.__setattr__(self, "tokens_file", readers.expanded(self.tokens_file))
        if self.max_timeout < self.timeout:
            object.__setattr__(self, "timeout", self.max_timeout)
        for name in ("memory", "cpus", "pids"):
            _check_most(name, getattr(self, name), getattr(self, f"max_{name}"))
        if self.shm is not None:
            _check_most("shm", self.shm, self.max_shm)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the settings from `environ` (default: `os.environ`); `overrides`, by field name, take precedence.

        An empty variable counts as unset. Raises `SettingsError` for the first invalid value.
        """
        environ = os.environ if environ is None else environ
        warnings = list(_unknown_variables(environ))
        values: dict[str, Any] = {}
        for variable in table():
            if variable.field in overrides:
                value = overrides.pop(variable.field)
                values[variable.field] = value if value is None else variable.parse(value)
            elif environ.get(variable.name, "").strip():
                _read_lenient(variable, environ[variable.name], values, warnings)
            elif variable.lenient:
                warnings.append(f"{variable.name} is not set; the default is {variable.default}")
        if overrides:
            raise SettingsError(f"there is no setting {', '.join(sorted(overrides))}: check the spelling")
        given = _without_none(values)
        profile = profiles.PROFILES.get(given.get("profile", ""), {})
        return cls(**{**profile, **given}, warnings=tuple(warnings))

    @property
    def guarded_networks(self) -> tuple[str, ...]:
        """Patterns of existing networks that the operator has given to runs, and that get the packet filter's rules."""
        # Not all of them where all are allowed for want of a setting: what else is on them would lose the host.
        return (*(self.networks or ()), *((self.network,) if self.network else ()))

    @property
    def prefer_runtime(self) -> str | None:
        """The runtime for runs that name none, if the engine has it; None if `runtime` is set."""
        return profiles.PREFERRED_RUNTIMES.get(self.profile) if self.runtime is None else None


def table() -> tuple[Variable, ...]:
    """Return all settings in the order of the documentation."""
    return tuple(
        Variable(
            field=each.name,
            name=PREFIX + each.name.upper(),
            default=each.metadata["shown"],
            help=each.metadata["help"],
            read=each.metadata["read"],
            option=each.metadata["option"],
            secret=each.metadata["secret"],
            lenient=each.metadata["lenient"],
        )
        for each in fields(Settings)
        if each.metadata
    )


def _read_lenient(variable: Variable, raw: str, values: dict[str, Any], warnings: list[str]) -> None:
    try:
        values[variable.field] = variable.parse(raw)
    except SettingsError as error:
        if not variable.lenient:
            raise
        warnings.append(f"{error}; using the default, {variable.default}")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    # A caller's None means unset, even if the default is not None.
    return {name: value for name, value in values.items() if value is not None}


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = [variable.name for variable in table()]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and name not in _CLIENT_VARIABLES:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f": did you mean {close[0]}?" if close else ": check the spelling"
            yield f"there is no setting {name}{meant}"


def _check_most(name: str, default: float, most: float | None) -> None:
    if most is not None and default > most:
        raise SettingsError(
            f"{PREFIX}MAX_{name.upper()} ({most}) is less than {PREFIX}{name.upper()} ({default}): "
            "raise the former or lower the latter"
        )
