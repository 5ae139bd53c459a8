"""``deploy/light-run.service``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from light_run.engine.sandbox import firewall_report
from tests.support.server import REPOSITORY

UNIT = REPOSITORY / "deploy" / "light-run.service"
FIREWALL = REPOSITORY / "deploy" / "light-run-firewall.service"
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


def test_the_rules_stand_before_the_server_starts() -> None:
    lines = UNIT.read_text().splitlines()
    for word in ("After=", "Wants="):
        assert any(line.startswith(word) and FIREWALL.name in line.split() for line in lines)
    firewall = FIREWALL.read_text().splitlines()
    assert f"ExecStartPre=-{COMMAND} firewall --once" in firewall
    assert f"ExecStart={COMMAND} firewall" in firewall
    assert "Restart=always" in firewall
    # Its end is the server's, and it has the same settings.
    assert "PartOf=light-run.service" in firewall
    assert "EnvironmentFile=-/etc/light-run.env" in set(firewall) & set(lines)


def test_the_rules_are_set_by_somebody_who_may_do_nothing_else() -> None:
    lines = FIREWALL.read_text().splitlines()
    assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW" in lines
    assert "NoNewPrivileges=yes" in lines
    (folder,) = (line.partition("=")[2] for line in lines if line.startswith("RuntimeDirectory="))
    assert Path("/run", folder) == firewall_report.PATH.parent
    assert "RuntimeDirectoryMode=0755" in lines


@pytest.mark.parametrize("checked", [UNIT, FIREWALL], ids=lambda path: path.name)
def test_systemd_finds_no_fault_in_it(tmp_path: Path, checked: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    for each in (UNIT, FIREWALL):
        assert COMMAND in each.read_text()
        # The command need only exist: here it is this Python.
        (tmp_path / each.name).write_text(each.read_text().replace(COMMAND, sys.executable))
    unit = tmp_path / checked.name
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # It names what this machine lacks of the units and users that ours refers to, too.
    complaints = [line for line in done.stderr.splitlines() if checked.name in line or str(unit) in line]
    assert complaints == []
