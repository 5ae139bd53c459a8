"""What the documentation says about deploying: its commands are executed, on a machine of paper.

Paths of the machine lie below a folder of the test's own, and what only root may do, or what would change
the machine, is written down instead.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from light_run.cli import main
from light_run.config.settings import Settings
from light_run.config.tokens import digest, read
from tests.docs.conftest import Place, named, served
from tests.docs.settings_files import README, REPOSITORY
from tests.support.nginx import binary
from tests.support.server import Server, free_port

DEPLOY = REPOSITORY / "deploy"
# An environment is made, and the tools for a package's build are fetched.
INSTALL_SECONDS = 240
FOLDERS = ("/opt/", "/etc/", "/var/lib/", "/var/run/")

# Only root gives files away; everything else of it is done.
INSTALL = """\
#!/bin/bash
words=()
while [ $# -gt 0 ]; do
    case $1 in -o|-g) shift 2 ;; *) words+=("$1"); shift ;; esac
done
exec /usr/bin/install "${words[@]}"
"""

NGINX = """\
pid {root}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    include {root}/etc/nginx/sites-enabled/*;
}}
"""


@dataclass(frozen=True)
class Machine:
    """A machine whose folders lie below `root`."""

    root: Path

    def path(self, path: str) -> Path:
        """Where a path of the machine really is."""
        return self.root / path.lstrip("/")

    def stand_in(self, name: str, script: str = "") -> None:
        """Put `script` in place of a command; by default one that only writes down how it was called."""
        words = f'#!/bin/sh\necho "{name} $*" >>{self.root}/calls\n'
        file = self.root / "stand-ins" / name
        file.write_text(script or words)
        file.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """How stand-ins were called."""
        return (self.root / "calls").read_text().splitlines()

    def follow(self, block: str, folder: Path) -> None:
        """Execute the documentation's block of that name in `folder`."""
        script = named(block).text
        for name in FOLDERS:
            script = re.sub(rf"(?<![\w/]){name}", f"{self.root}{name}", script)
        path = (
            f"{self.root}/stand-ins{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=folder,
            env={**os.environ, "PATH": path, "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with nothing on it but its folders and our stand-ins."""
    machine = Machine(tmp_path / "machine")
    for folder in ("stand-ins", "opt", "etc/systemd/system", "var/lib", "var/run"):
        (machine.root / folder).mkdir(parents=True)
    for name in ("useradd", "systemctl", "docker"):
        machine.stand_in(name)
    machine.stand_in("install", INSTALL)
    return machine


@pytest.mark.timeout(INSTALL_SECONDS + 60)
def test_systemd(machine: Machine, checkout: Path) -> None:
    machine.follow("systemd", checkout)
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(machine.path("/etc/systemd/system/light-run.service"))
    service = unit["Service"]
    program = machine.path(service["ExecStart"].split()[0])
    assert "light_run.__main__" in program.read_text()
    assert description(program.with_name("python")) == README.read_text().strip()
    assert machine.calls == [
        f"useradd --system --home-dir {machine.root}/var/lib/light-run --shell /usr/sbin/nologin {service['User']}",
        "systemctl enable --now light-run",
    ]
    wanted = set(unit["Unit"]["Wants"].split()) & {each.name for each in DEPLOY.iterdir()}
    assert wanted == {"light-run-firewall.service"}
    assert all(machine.path(f"/etc/systemd/system/{each}").is_file() for each in wanted)
    environment = machine.path(service["EnvironmentFile"].removeprefix("-"))
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert len(Settings.from_env(assignments(environment)).token or "") == 64


def test_nginx(machine: Machine, checkout: Path) -> None:
    nginx = machine.path("/etc/nginx")
    for folder in ("sites-available", "sites-enabled"):
        (nginx / folder).mkdir(parents=True)
    (nginx / "nginx.conf").write_text(NGINX.format(root=machine.root))
    (nginx / "sites-enabled/default").write_text("the site that Debian brings along is no nginx")
    machine.stand_in("nginx", f'#!/bin/sh\nexec {binary()} -c {nginx}/nginx.conf "$@"\n')
    # A test of the configuration listens where it says.
    site = checkout / "deploy/nginx.conf"
    site.write_text(site.read_text().replace("listen 80;", f"listen 127.0.0.1:{free_port()};"))
    machine.follow("nginx-site", checkout)
    assert [entry.name for entry in (nginx / "sites-enabled").iterdir()] == ["light-run"]
    assert machine.calls == ["systemctl reload nginx"]


def test_lines_of_the_nginx_site() -> None:
    site = [line.strip() for line in (DEPLOY / "nginx.conf").read_text().splitlines()]
    shown = named("nginx-lines").text.splitlines()
    assert [line for line in site if line in shown] == shown
    assert f"{Settings().body_limit // (1 << 20)}m;" in shown[0]
    read_timeout = re.search(r"proxy_read_timeout (\d+)s;", "\n".join(shown))
    assert read_timeout is not None
    assert int(read_timeout[1]) * 1000 > Settings().max_timeout
    assert "location ^~ /internal-artifacts/ {" in site


def test_compose(machine: Machine, checkout: Path) -> None:
    machine.path("/var/run/docker.sock").touch()
    machine.follow("compose", checkout)
    compose = (checkout / "deploy/docker-compose.yml").read_text()
    given = assignments(checkout / "deploy/.env")
    assert set(given) == set(re.findall(r"\$\{(\w+):\?", compose))
    assert len(given["LIGHT_RUN_TOKEN"]) == 64
    assert given["DOCKER_GID"] == str(machine.path("/var/run/docker.sock").stat().st_gid)
    for folder in (machine.path("/var/lib/light-run"), checkout / "deploy/artifacts"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert machine.calls == ["docker compose up -d --build"]
    assert '"127.0.0.1:3001:3001"' in compose
    assert compose.count("source: /var/lib/light-run\n        target: /var/lib/light-run\n") == 1


def test_prometheus(machine: Machine, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHT_RUN_TOKENS_FILE", str(machine.path("/etc/tokens.json")))
    machine.path("/etc/prometheus").mkdir()
    machine.stand_in("light-run", f'#!/bin/sh\nexec {sys.executable} -m light_run "$@"\n')
    # The token lies where it says, on this machine of paper.
    configuration = checkout / "deploy/prometheus.yml"
    configuration.write_text(configuration.read_text().replace("/etc/", f"{machine.root}/etc/"))
    machine.follow("prometheus", checkout)
    assert machine.calls == ["systemctl reload prometheus"]
    (found,) = read(machine.path("/etc/tokens.json"))
    assert (found.name, found.scopes) == ("prometheus", frozenset({"metrics"}))
    token = machine.path("/etc/prometheus/light-run.token")
    assert found.digest == digest(token.read_text().strip().encode())
    assert stat.S_IMODE(token.stat().st_mode) == 0o640


def description(python: Path) -> str:
    """What the installed package says of itself at length."""
    show = "import importlib.metadata; print(importlib.metadata.metadata('light-run')['Description'])"
    # Away from here: not the checkout's own metadata.
    done = subprocess.run([python, "-c", show], cwd=python.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_firewall(machine: Machine, checkout: Path) -> None:
    machine.stand_in("light-run")
    machine.follow("firewall", checkout)
    (call,) = machine.calls
    assert main.get_command(click.Context(main), call.split()[1]) is not None


def assignments(path: Path) -> dict[str, str]:
    """The variables that a file sets; no quotes, no comments behind values."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@contextmanager
def served_alone(folder: Path, block: str) -> Iterator[Server]:
    """The server that the documentation starts by a gunicorn of one's own."""
    place = Place(folder)
    place.prepare()
    with served(place, block, "gunicorn") as server:
        yield server


@pytest.mark.parametrize("block", ["gunicorn", "gunicorn-configured"])
def test_gunicorn(tmp_path: Path, block: str) -> None:
    assert "LIGHT_RUN_TOKEN=change-me-please" in named(block).text
    with served_alone(tmp_path, block) as server:
        assert server.get("/runs").status_code == 401
        assert server.get("/runs", token="change-me-please").json() == []
