"""What a run may do: privileges, users, runtimes, images and networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from light_run.config import profiles, readers
from light_run.config.variables import setting

_NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SandboxSettings:
    """What a run may do: privileges, users, runtimes, images and networks."""

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
