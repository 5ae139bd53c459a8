"""Credentials of registries, from docker configuration files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.credentials import credentials
from light_run.errors import EngineUnavailable, PullFailed

SECRET = "secret-canary-77ab"
AUTH = base64.b64encode(f"robot:{SECRET}".encode()).decode()

Configure = Callable[[Any], None]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Write the docker configuration, JSON or text; there is none before."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "config.json").write_text(text)

    return write


def program(folder: Path, script: str) -> None:
    """A credential program called ``test``."""
    path = folder / "docker-credential-test"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def known(repository: str) -> tuple[str | None, str | None]:
    """User and password, in whichever spelling."""
    found = {name.lower(): value for name, value in credentials(repository).items()}
    return found.get("username"), found.get("password")


@pytest.mark.parametrize(
    ("registry", "repository"),
    [
        ("registry.example:5000", "registry.example:5000/team/image"),
        ("https://registry.example:5000/v2/", "registry.example:5000/team/image"),
        ("https://index.docker.io/v1/", "alpine"),
        ("https://index.docker.io/v1/", "team/image"),
        ("https://index.docker.io/v1/", "docker.io/library/alpine"),
    ],
)
def test_a_password_in_the_file(configure: Configure, registry: str, repository: str) -> None:
    configure({"auths": {registry: {"auth": AUTH}}})
    assert known(repository) == ("robot", SECRET)


def test_none_for_another_registry(configure: Configure) -> None:
    configure({"auths": {"registry.example:5000": {"auth": AUTH}}})
    for repository in ("registry.example/a", "registry.example:5001/a", "alpine"):
        assert credentials(repository) == {}


def test_the_file_is_read_each_time(configure: Configure) -> None:
    assert credentials("r.example/a") == {}
    configure({"auths": {"r.example": {"auth": AUTH}}})
    assert known("r.example/a") == ("robot", SECRET)
    configure({})
    assert credentials("r.example/a") == {}


def test_an_identity_token(configure: Configure) -> None:
    configure({"auths": {"r.example": {"auth": AUTH, "identitytoken": SECRET}}})
    assert credentials("r.example/a") == {"IdentityToken": SECRET}


@pytest.mark.parametrize("where", [{"credHelpers": {"r.example": "test"}}, {"credsStore": "test"}])
def test_a_credential_program(configure: Configure, tmp_path: Path, where: dict[str, Any]) -> None:
    said = json.dumps({"ServerURL": "r.example", "Username": "robot", "Secret": SECRET})
    program(tmp_path, f"""[ "$1" = get ] && [ "$(cat)" = r.example ] && echo '{said}'""")
    configure({**where, "auths": {"r.example": {}}})
    assert known("r.example/a") == ("robot", SECRET)


def test_a_program_that_has_nothing_leaves_it_to_the_file(configure: Configure, tmp_path: Path) -> None:
    program(tmp_path, "echo 'credentials not found in native keychain'; exit 1")
    configure({"credsStore": "test", "auths": {"r.example": {"auth": AUTH}}})
    assert known("r.example/a") == ("robot", SECRET)
    assert credentials("other.example/a") == {}


@pytest.mark.parametrize(
    "script",
    [f"echo {SECRET}; exit 1", f"echo {SECRET}", "echo '{}'", f"""echo '["{SECRET}"]'""", "kill -9 $$"],
)
def test_a_program_that_fails_is_named_and_not_quoted(
    configure: Configure, tmp_path: Path, script: str
) -> None:
    program(tmp_path, script)
    configure({"credsStore": "test"})
    with pytest.raises(PullFailed, match=r"r\.example.*docker-credential") as raised:
        credentials("r.example/a")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.filterwarnings("ignore:docker-credential-missing not installed")
def test_a_program_that_is_not_there(configure: Configure) -> None:
    configure({"credsStore": "missing"})
    with pytest.raises(PullFailed, match="not there"):
        credentials("r.example/a")


@pytest.mark.parametrize(
    "content",
    [
        {"auths": {"r.example": {"auth": SECRET + "!"}}},
        {"auths": {"r.example": {"auth": base64.b64encode(SECRET.encode()).decode()}}},
        {"auths": {"r.example": SECRET}},
        {"auths": [SECRET]},
        [SECRET],
    ],
)
def test_a_broken_file_is_named_and_not_quoted(configure: Configure, content: Any) -> None:
    configure(content)
    with pytest.raises(PullFailed, match=r"config\.json") as raised:
        credentials("r.example/a")
    assert SECRET not in str(raised.value)
    # docker-py reads it with each client, too.
    with pytest.raises(EngineUnavailable) as unavailable:
        Engine().info()
    assert SECRET not in str(unavailable.value)


@pytest.mark.parametrize("content", ["", "{", "{}", '{"proxies": {}}'])
def test_a_file_without_any(configure: Configure, content: str) -> None:
    configure(content)
    assert credentials("r.example/a") == {}
