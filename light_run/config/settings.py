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
from typing import Any

from light_run.config import profiles, readers
from light_run.config.groups.files import FileSettings
from light_run.config.groups.http import HTTPSettings
from light_run.config.groups.lifecycle import LifecycleSettings
from light_run.config.groups.limits import LimitSettings
from light_run.config.groups.sandbox import SandboxSettings
from light_run.config.groups.storage import StorageSettings
from light_run.config.variables import Variable
from light_run.errors import SettingsError

PREFIX = "LIGHT_RUN_"

# Variables of the client commands, which the server must not report as unknown.
_CLIENT_VARIABLES = frozenset({"LIGHT_RUN_URL"})


# Fields of a base that comes later are earlier in `table`.
@dataclass(frozen=True, kw_only=True)
class Settings(
    LifecycleSettings, FileSettings, SandboxSettings, LimitSettings, StorageSettings, HTTPSettings
):
    """All settings. Sizes are in bytes, `timeout` and `max_timeout` in milliseconds, other times in seconds.

    `max_memory`, `max_cpus` and `max_pids` limit what a request can set; None is the same as `memory` and so on.
    `images` and `networks` are patterns; None allows all. If `network` is None, runs use the server's own bridge.
    `warnings` has a sentence for each invalid value that was replaced and each unknown variable.
    """

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
