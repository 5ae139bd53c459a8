"""How a `Runner` is set up; everything the engine package needs to know is passed in here."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from light_run.engine.spec import MIB, Limits

# What the engine grants by default and no program in a run has a use for.
DROPPED_CAPABILITIES = ("NET_RAW", "MKNOD", "SYS_CHROOT", "SETPCAP", "SETFCAP", "AUDIT_WRITE")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """Settings of a `Runner`.

    `server_id` labels everything this runner creates, so that what an earlier one left can be found, and
    `session` tells this one's own from that.
    `state_dir` holds workspaces, None is a temporary folder for the runner's life. `workspace` is
    ``auto``, ``bind`` or ``archive``. `limits` are what a run gets that asks for none. `network` names the
    isolated bridge, `default_network` what runs get that name none (None is that bridge). Patterns in `guarded` are of
    existing networks that are kept from the host and from metadata addresses as the isolated one is. `prefer_runtime`
    is used where the engine has it and neither a run nor `runtime` names another. Caps are in bytes, times
    in seconds; `step_timeout` is for all steps of a run together, the most a run may ask for and what it gets that
    asks for none, `pull_timeout` for its pull; `engine_patience` is how long a run whose engine went away waits for
    it to come back.
    Cached images of steps that are not used for `step_images_age`, or are beyond `step_images_bytes` in all, are
    removed by `Runner.maintain`.
    While a disk has less than `disk_reserve` free, the run that has written the most to it is ended; 0 ends none.
    `allow_unlimited` has runs started on an engine that cannot limit them.
    `registries` are patterns of registries that a run with an owner may pull from wherever they are.
    `parked_max` 0 turns parking off; `parked_pins` maps an image to how many containers of it are kept parked.
    """

    server_id: str = "sdk"
    session: str = field(default_factory=lambda: secrets.token_hex(8))
    state_dir: Path | None = None
    workspace: str = "auto"
    limits: Limits = field(default_factory=Limits)
    cap_drop: tuple[str, ...] = DROPPED_CAPABILITIES
    read_only: bool = False
    user: str | None = None
    runtime: str | None = None
    prefer_runtime: str | None = None
    allow_unlimited: bool = False
    registries: tuple[str, ...] = ()
    network: str = "light-run"
    default_network: str | None = None
    guarded: tuple[str, ...] = ()
    log_cap: int = 10 * MIB
    extract_cap: int = 1024 * MIB
    extract_entries: int = 100_000
    workspace_cap: int = 10 * 1024 * MIB
    disk_reserve: int = 256 * MIB
    upload_cap: int = 1024 * MIB
    step_images_age: float = 604_800.0
    step_images_bytes: int = 10 * 1024 * MIB
    step_timeout: float = 1200.0
    pull_timeout: float = 1200.0
    engine_patience: float = 60.0
    parked_max: int = 4
    parked_idle: float = 300.0
    parked_pins: Mapping[str, int] = field(default_factory=dict)

    @property
    def intake_cap(self) -> int:
        """Most bytes of the files that are taken one by one: as an upload may have, and no more than a workspace."""
        return min(self.upload_cap, self.workspace_cap or self.upload_cap)
