"""``deploy/Dockerfile``, built and run, and ``deploy/docker-compose.yml``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from light_run.config import readers
from light_run.engine.sandbox import firewall_report
from tests.support.engine import PYTHON, containers_of, engine_api, inspect_container, inspect_image
from tests.support.poll import eventually, until_nothing
from tests.support.server import REPOSITORY, TOKEN, free_port, run_request

# The first test that needs the image waits for its making.
pytestmark = pytest.mark.timeout(400)

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
COMPOSE = REPOSITORY / "deploy" / "docker-compose.yml"
NAME = "light-run-test/light-run"
BASE = "light-run-test/with-pip"
LABEL = "light-run-test.with-pip"
UID = 10001
# Of the engine that the tests use.
SOCKET = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))


def build(folder: Path, tag: str, dockerfile: str = "Dockerfile", **arguments: str) -> None:
    """Build an image by the engine's own builder, which every engine has; fails where that fails."""
    with engine_api() as api:
        messages = api.build(
            path=str(folder),
            dockerfile=dockerfile,
            tag=tag,
            buildargs=arguments,
            network_mode="none",
            rm=True,
            decode=True,
        )
        said = list(messages)
    assert not any("error" in message for message in said), said[-20:]


def remove_image(name: str) -> None:
    """Remove an image, which nothing uses any more."""
    with engine_api() as api:
        api.remove_image(name)


def output(image: str, *command: str) -> str:
    """What a container of `image` without a network prints; fails where it fails."""
    with engine_api() as api, container(api, image, list(command), {"NetworkMode": "none"}) as name:
        code = api.wait(name, timeout=60)["StatusCode"]
        printed: str = api.logs(name).decode().strip()
    assert code == 0, printed
    return printed


@contextmanager
def container(
    api: Any, image: str, command: list[str] | None, host: dict[str, Any], **config: Any
) -> Iterator[str]:
    """The name of a started container; removed when this leaves."""
    name = f"light-run-test-{uuid.uuid4().hex[:8]}"
    api.create_container(image, command, name=name, host_config=host, **config)
    try:
        api.start(name)
        yield name
    finally:
        api.remove_container(name, force=True, v=True)


def server_log(name: str) -> str:
    """What the server in the container `name` has written, which is on stderr."""
    with engine_api() as api:
        return str(api.logs(name, stdout=False).decode())


def download_wheels(folder: Path, python: str) -> None:
    """Everything that light-run needs, for the image's Python."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--dest",
        str(folder),
        "--only-binary=:all:",
    ]
    command += ["--python-version", python, "--implementation", "cp", "--abi", f"cp{python.replace('.', '')}"]
    command += ["--abi", "abi3", "--abi", "none"]
    machine = os.uname().machine
    for platform in (
        f"manylinux2014_{machine}",
        f"manylinux_2_17_{machine}",
        f"manylinux_2_28_{machine}",
        "any",
    ):
        command += ["--platform", platform]
    package = ConfigParser()
    package.read(REPOSITORY / "setup.cfg")
    requirements = package["options"]["install_requires"].split()
    command += ["pip", "setuptools", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """A stand-in for python:3.12-slim: our Python image with pip, which finds what it installs in a folder."""
    version = output(PYTHON, "python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        download_wheels(folder / "wheels", version)
        (wheel,) = (folder / "wheels").glob("pip-*.whl")
        (folder / "pip").write_text(f'#!/bin/sh\nexec python3 /wheels/{wheel.name}/pip "$@"\n')
        (folder / "pip").chmod(0o755)
        lines = [
            f"FROM {PYTHON}",
            f"LABEL {LABEL}=1",
            "COPY wheels /wheels",
            "COPY pip /usr/bin/pip",
            "ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_DISABLE_PIP_VERSION_CHECK=1",
        ]
        (folder / "Dockerfile").write_text("\n".join(lines))
        build(folder, BASE)
    yield BASE
    remove_image(BASE)


@pytest.fixture(scope="module")
def image(base: str) -> Iterator[str]:
    """The Dockerfile's image."""
    build(REPOSITORY, NAME, str(DOCKERFILE.relative_to(REPOSITORY)), BASE=base, UID=str(UID))
    yield NAME
    remove_image(NAME)
    # The first stage has no name; it has the base's label.
    with engine_api() as api:
        api.prune_images({"dangling": True, "label": LABEL})  # type: ignore[no-untyped-call]


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder that has the same path inside and outside of the container, and its user's own."""
    folder = Path(tempfile.mkdtemp(prefix="light-run-docker-"))
    for part in (folder, folder / "state", folder / "artifacts"):
        part.mkdir(exist_ok=True)
        os.chown(part, UID, UID)
    yield folder
    shutil.rmtree(folder)


def test_the_image_is_small_in_rights(image: str) -> None:
    config = inspect_image(image)["Config"]
    assert config["User"] == f"{UID}:{UID}"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["ExposedPorts"] == {"3001/tcp": {}}
    assert output(image, "--version")


@pytest.mark.parametrize("workspace", ["bind", "archive"])
def test_it_serves_beside_the_engine(image: str, state: Path, workspace: str) -> None:
    # By another name than the host has for it, the engine does not find the folder.
    inside = f"{state}/state" if workspace == "bind" else "/elsewhere"
    port = free_port()
    host = {
        "NetworkMode": "host",
        "Init": True,
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": ""},
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "GroupAdd": [str(SOCKET.stat().st_gid)],
        "Binds": [
            f"{SOCKET}:/var/run/docker.sock",
            f"{state}/state:{inside}",
            f"{state}/artifacts:/artifacts",
        ],
    }
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "TOKEN": TOKEN, "STATE_DIR": inside}
    environment = {f"LIGHT_RUN_{name}": value for name, value in settings.items()}
    # Of the image's health check, only these two.
    often = {"interval": 10**9, "timeout": 30 * 10**9}
    with (
        engine_api() as api,
        container(api, image, None, host, environment=environment, healthcheck=often) as name,
    ):
        eventually(
            lambda: inspect_container(name)["State"]["Health"]["Status"] == "healthy",
            "the container is healthy",
            within=90,
        )
        response = requests.post(
            f"http://127.0.0.1:{port}/run",
            json=run_request(entrypoint="cat main.txt; echo x > out", extract=["out"]),
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        final = response.json()
        assert (final["status"], final["logs"]) == ("succeeded", ["hello"]), (final, server_log(name))
        assert (state / "artifacts" / final["id"] / "out").read_bytes() == b"x\n"
        assert (state / "artifacts" / final["id"] / "out").stat().st_uid == UID
        server_id = (state / "state" / "server-id").read_text().strip()
        # Both by finding out: nothing but the one that takes longer is worth a word in the log.
        health = f"http://127.0.0.1:{port}/health"
        # An engine that is busy with the images of others may take longer than a health check waits for it.
        eventually(
            lambda: requests.get(health, timeout=60).json().get("workspace") == workspace,
            f"the workspace is by {workspace}",
        )
        assert ("does not see the folders" in server_log(name)) is (workspace == "archive")
        api.stop(name, timeout=40)
        assert inspect_container(name)["State"]["ExitCode"] == 0
        until_nothing(lambda: containers_of(server_id), "no container is left")


# --- docker-compose.yml ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


@pytest.fixture(scope="module")
def service(services: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The server."""
    return services["light-run"]


@pytest.fixture(scope="module")
def firewall(services: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The one that sets the packet filter's rules, and the only other one."""
    (found,) = (each for name, each in services.items() if name != "light-run")
    return found


def test_compose_sets_the_rules_before_the_server_starts(
    service: dict[str, Any], firewall: dict[str, Any]
) -> None:
    assert firewall["command"] == ["firewall"]
    assert (firewall["image"], firewall["build"]) == (service["image"], service["build"])
    assert (firewall["network_mode"], firewall["user"]) == ("host", "0:0")
    assert firewall["restart"] == "unless-stopped"
    assert service["depends_on"] == {"firewall": {"condition": "service_healthy"}}
    # The server reads its report, and cannot write it.
    report = str(firewall_report.PATH.parent)
    mounts = [{mount["target"]: mount for mount in each["volumes"]}[report] for each in (firewall, service)]
    assert mounts[0]["source"] == mounts[1]["source"]
    assert [mount.get("read_only", False) for mount in mounts] == [False, True]
    assert str(firewall_report.PATH) in firewall["healthcheck"]["test"][-1]


def test_compose_gives_the_rules_no_other_rights(firewall: dict[str, Any]) -> None:
    assert firewall["cap_drop"] == ["ALL"]
    assert set(firewall["cap_add"]) == {"NET_ADMIN", "NET_RAW"}
    assert firewall["read_only"] is True
    assert "no-new-privileges:true" in firewall["security_opt"]
    assert "privileged" not in firewall


def test_the_image_has_the_command_that_sets_the_rules(image: str) -> None:
    # Without the right to do so, it says what is missing.
    host = {"NetworkMode": "none"}
    with engine_api() as api, container(api, image, ["firewall", "--once"], host) as name:
        assert api.wait(name, timeout=60)["StatusCode"] == 2
        assert b"start this as root" in api.logs(name)


def test_compose_builds_this_dockerfile(service: dict[str, Any]) -> None:
    context = (COMPOSE.parent / service["build"]["context"]).resolve()
    assert context == REPOSITORY
    assert (context / service["build"]["dockerfile"]) == DOCKERFILE


def test_compose_publishes_on_loopback_what_the_image_exposes(service: dict[str, Any]) -> None:
    assert service["ports"] == ["127.0.0.1:3001:3001"]
    assert "EXPOSE 3001" in DOCKERFILE.read_text()
    assert "LIGHT_RUN_PORT=3001" in DOCKERFILE.read_text()


def test_compose_mounts(service: dict[str, Any]) -> None:
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    del mounts[str(firewall_report.PATH.parent)]
    assert all(mount["type"] == "bind" for mount in mounts.values())
    assert mounts["/var/run/docker.sock"]["source"] == "/var/run/docker.sock"
    state = service["environment"]["LIGHT_RUN_STATE_DIR"]
    assert mounts[state]["source"] == state, "the engine mounts workspaces by the path they have inside"
    assert service["environment"]["LIGHT_RUN_ARTIFACTS_DIR"] in mounts
    assert len(mounts) == 3


def test_compose_asks_for_a_token_and_the_engine_s_group(service: dict[str, Any]) -> None:
    assert service["environment"]["LIGHT_RUN_TOKEN"].startswith("${LIGHT_RUN_TOKEN:?")
    assert service["group_add"] == ["${DOCKER_GID:?set it in .env}"]


def test_compose_trusts_the_gateway_that_nginx_comes_by(service: dict[str, Any]) -> None:
    trusted = readers.networks(service["environment"]["LIGHT_RUN_TRUSTED_PROXIES"])
    with engine_api() as api:
        (bridge,) = api.networks(names=["^bridge$"])
    (config,) = (each for each in bridge["IPAM"]["Config"] if ":" not in each["Subnet"])
    # An engine that started for the first time names no gateway: it is the first address.
    gateway = ip_address(config.get("Gateway") or str(ip_network(config["Subnet"])[1]))
    assert any(gateway in network for network in trusted)


def test_compose_takes_rights_away(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service


def test_compose_gives_a_stop_the_time_it_takes(service: dict[str, Any]) -> None:
    seconds = re.fullmatch(r"(\d+)s", service["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) >= 35
