"""What an operator may choose, read from the environment once.

`Settings` is the one table: every field has its variable, its default, how it is read and a sentence of
help. The environment, the options of ``light-run serve``, the arguments of `create_app` and the
documentation's table all follow from it.
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

# Read by the client commands, and so not unknown here.
_CLIENT_VARIABLES = frozenset({"LIGHT_RUN_URL"})

_NOTHING: tuple[str, ...] = ()
_NO_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = ()
_NO_PINS: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting. Sizes are in bytes, `timeout` and `max_timeout` in milliseconds, other times in seconds.

    `max_memory`, `max_cpus` and `max_pids` are what a request may ask for; None is as much as the default.
    `images` and `networks` are patterns, None allows all; `network` None is the server's own bridge.
    `warnings` has a sentence for each value that could not be used and each variable nobody knows.
    """

    port: int = setting(3000, readers.integer(1, 65535), "TCP port to listen on", option="--port")
    host: str = setting("127.0.0.1", readers.word, "address or name to listen on", option="--host")
    token: str | None = setting(
        None,
        readers.token,
        "bearer token that every route but GET /health asks for",
        shown="unset: open, with a warning",
        option="--token",
        secret=True,
    )
    tokens_file: Path | None = setting(
        None,
        readers.path,
        "file of named tokens, see light-run token; read again when it changes",
        shown="unset: LIGHT_RUN_TOKEN alone",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        _NO_NETWORKS,
        readers.networks,
        "addresses of proxies whose X-Forwarded-For says who guesses tokens, such as 127.0.0.1",
        shown="none",
    )
    origins: tuple[str, ...] = setting(
        _NOTHING,
        readers.origins,
        "origins whose web pages may use the server, such as https://*.example.com, or * for all",
        shown="none but the server's own",
    )
    hosts: tuple[str, ...] = setting(
        _NOTHING,
        readers.hosts,
        "patterns of names that clients may use for a server without a token, beside localhost and addresses",
        shown="none",
    )
    body_limit: int = setting(
        10 * MIB, readers.size(1), "most bytes of a request body", option="--body-limit"
    )
    upload_limit: int = setting(
        1024 * MIB,
        readers.size(1),
        "most bytes of a multipart body, and of its files, unpacked",
        option="--upload-limit",
    )
    body_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds in which a request body has to arrive; a multipart body gets one more for each 32 KiB",
        shown="60",
    )
    send_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds in which a client has to take the next 64 KiB of an answer",
        shown="60",
    )
    state_dir: Path = setting(
        Path("~/.light-run"), readers.path, "folder of all that the server keeps", option="--state-dir"
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
        "most bytes of all artifacts; the oldest go first",
        lenient=True,
    )
    max_concurrency: int = setting(
        8, readers.integer(1, 10_000), "runs at work at the same time", option="--max-concurrency"
    )
    threads: int = setting(
        64,
        readers.integer(4, 1000),
        "request threads; sync runs hold three quarters at most",
        option="--threads",
    )
    max_followers: int = setting(
        100, readers.integer(0, 10_000), "clients that follow a run's log at once, beside the request threads"
    )
    max_queue: int = setting(1000, readers.integer(0, 1_000_000), "runs waiting for a slot; beyond: 503")
    memory: int = setting(512 * MIB, readers.size(6 * MIB), "memory of a run that asks for none")
    max_memory: int | None = setting(
        None, readers.size(6 * MIB), "most memory a run may ask for", shown="as LIGHT_RUN_MEMORY"
    )
    cpus: float = setting(1.0, readers.number(0.01, 1024), "CPUs of a run that asks for none")
    max_cpus: float | None = setting(
        None, readers.number(0.01, 1024), "most CPUs a run may ask for", shown="as LIGHT_RUN_CPUS"
    )
    allow_unlimited: bool = setting(
        False,
        readers.boolean,
        "start runs on an engine that cannot limit memory, CPUs, processes or system calls",
    )
    pids: int = setting(
        100, readers.integer(1, 4_194_304), "processes and threads of a run that asks for none"
    )
    max_pids: int | None = setting(
        None, readers.integer(1, 4_194_304), "most processes a run may ask for", shown="as LIGHT_RUN_PIDS"
    )
    timeout: int = setting(
        1_200_000, readers.milliseconds(1, 86_400_000), "time of a run that asks for none, in ms"
    )
    max_timeout: int = setting(
        3_600_000, readers.milliseconds(1, 86_400_000), "most time a run may ask for, in ms"
    )
    step_timeout: float = setting(
        1200.0,
        readers.seconds(0.1, 3600),
        "seconds for all steps of a run together; a run may ask for less",
        shown="1200",
    )
    pull_timeout: float = setting(
        1200.0, readers.seconds(1, 86_400), "seconds in which a run's image has to be pulled", shown="1200"
    )
    profile: str = setting(
        "default",
        readers.choice("default", *profiles.PROFILES),
        "how tight runs are kept: default or strict; settings that are given come before it",
    )
    cap_drop: tuple[str, ...] = setting(
        _NOTHING,
        readers.capabilities,
        "capabilities to drop beside the usual ones; ALL for every one",
        shown="none",
    )
    read_only: bool = setting(False, readers.boolean, "give runs a read-only root file system")
    user: str | None = setting(
        None, readers.user, "user of every run: name, uid or uid:gid", shown="the image's own"
    )
    runtime: str | None = setting(
        None, readers.name, "runtime of a run that asks for none", shown="the engine's own"
    )
    runtimes: tuple[str, ...] | None = setting(
        None,
        readers.names,
        "runtimes a run may ask for",
        shown="runc,runsc; the one of LIGHT_RUN_RUNTIME alone where that is set",
    )
    images: tuple[str, ...] | None = setting(
        None,
        readers.patterns,
        "image patterns that are allowed, such as python:3.*,ghcr.io/acme/**",
        shown="all",
    )
    pull: Literal["missing", "always", "never"] = setting(
        "missing",
        readers.choice("missing", "always", "never"),
        "when to pull the image of a run that does not say: missing or always; never also forbids requests to pull",
    )
    registries: tuple[str, ...] = setting(
        _NOTHING,
        readers.patterns,
        "patterns of registries at private addresses that named tokens may pull from, such as *.internal:5000",
        shown="none",
    )
    networks: tuple[str, ...] | None = setting(
        None, readers.patterns, "patterns of networks a run may name, such as none,team-*", shown="all"
    )
    network: str | None = setting(
        None, readers.name, "network of a run that names none", shown="the server's own, isolated"
    )
    extract_limit: int = setting(1024 * MIB, readers.size(0), "most bytes of one `extract` entry")
    extract_entries: int = setting(
        100_000, readers.integer(1, 10_000_000), "most files and folders of one run's artifacts"
    )
    max_workspace_bytes: int = setting(
        10 * 1024 * MIB, readers.size(0), "most bytes of a run's files and all it writes; 0 is no cap"
    )
    log_limit: int = setting(10 * MIB, readers.size(0), "most bytes of output kept of one run")
    workspace: str = setting(
        "auto", readers.choice("auto", "bind", "archive"), "how files get in and out: auto, bind or archive"
    )
    parked: tuple[tuple[str, int], ...] = setting(
        _NO_PINS, readers.pins, "images to keep parked containers of, such as alpine:3.19=2", shown="none"
    )
    parked_max: int = setting(4, readers.integer(0, 1000), "most parked containers; 0 turns parking off")
    parked_idle: float = setting(
        300.0, readers.seconds(1, 604_800), "how long an unused parked container stays", shown="300"
    )
    accel: str | None = setting(
        None,
        readers.prefix,
        "prefix of nginx's internal location for the artifacts (X-Accel-Redirect)",
        shown="unset: files are sent by the server itself",
    )
    retention: float = setting(
        604_800.0, readers.seconds(0, 315_360_000), "seconds that finished runs are kept", shown="604800"
    )
    max_runs: int = setting(
        10_000, readers.integer(1, 1_000_000), "most finished runs kept; the oldest go first"
    )
    callback_private: bool = setting(
        True, readers.boolean, "allow callbacks to loopback and private addresses"
    )
    callback_pause: float = setting(
        2.0,
        readers.seconds(0.01, 3600),
        "seconds before a callback's second try; later pauses grow",
        shown="2",
    )
    callback_lifetime: float = setting(
        86_400.0,
        readers.seconds(0, 604_800),
        "seconds after a run's end in which its callback is tried",
        shown="86400",
    )
    sweep_interval: float = setting(
        60.0, readers.seconds(0.1, 86_400), "seconds between two looks of the sweeper", shown="60"
    )
    grace: float = setting(
        5.0, readers.seconds(0, 3600), "seconds that sync runs get to end in when the server stops", shown="5"
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

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read `environ` (default: the process's); `overrides`, by field name, come first.

        An empty variable is an unset one. Raises `SettingsError` for the first value that cannot be used.
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
                warnings.append(f"{variable.name} is not set; it is {variable.default}")
        if overrides:
            raise SettingsError(f"there is no setting {', '.join(sorted(overrides))}")
        given = _without_none(values)
        profile = profiles.PROFILES.get(given.get("profile", ""), {})
        return cls(**{**profile, **given}, warnings=tuple(warnings))

    @property
    def prefer_runtime(self) -> str | None:
        """The runtime of a run that asks for none where the engine has it; None where another is set."""
        return profiles.PREFERRED_RUNTIMES.get(self.profile) if self.runtime is None else None


def table() -> tuple[Variable, ...]:
    """Every setting there is, in the order of the documentation."""
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
        warnings.append(f"{error}; it is {variable.default}")


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    # None given by a caller means "unset", also where the default is something else.
    return {name: value for name, value in values.items() if value is not None}


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = [variable.name for variable in table()]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and name not in _CLIENT_VARIABLES:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; {close[0]} is probably meant" if close else ""
            yield f"there is no setting {name}{meant}"


def _check_most(name: str, default: float, most: float | None) -> None:
    if most is not None and default > most:
        raise SettingsError(
            f"{PREFIX}MAX_{name.upper()} is {most}, less than the {default} of {PREFIX}{name.upper()}: "
            "give the same or more, or lower the latter"
        )
