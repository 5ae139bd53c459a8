"""``deploy/light-run.service``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import REPOSITORY

UNIT = REPOSITORY / "deploy" / "light-run.service"
COMMAND = "/opt/light-run/bin/light-run"

HARDENED = [
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "RestrictNamespaces=yes",
    "SystemCallFilter=@system-service",
    "StateDirectory=light-run",
    "SupplementaryGroups=docker",
    "User=light-run",
]


@pytest.mark.parametrize("line", HARDENED)
def test_it_is_hardened(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


def test_state_and_artifacts_lie_in_its_state_directory() -> None:
    text = UNIT.read_text()
    assert "Environment=LIGHT_RUN_STATE_DIR=/var/lib/light-run/state" in text
    assert "Environment=LIGHT_RUN_ARTIFACTS_DIR=/var/lib/light-run/artifacts" in text
    assert "alias /var/lib/light-run/artifacts/;" in (UNIT.parent / "nginx.conf").read_text()


def test_nginx_is_trusted_to_say_who_guesses_tokens() -> None:
    assert "Environment=LIGHT_RUN_TRUSTED_PROXIES=127.0.0.1,::1" in UNIT.read_text().splitlines()


def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    unit = tmp_path / UNIT.name
    assert COMMAND in UNIT.read_text()
    # The command need only exist: here it is this Python.
    unit.write_text(UNIT.read_text().replace(COMMAND, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # It names what this machine lacks of the units and users that ours refers to, too.
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line or str(unit) in line]
    assert complaints == []
