"""Which engine is used: DOCKER_HOST, a docker context, or the local one."""

from __future__ import annotations

import hashlib
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from light_run.engine.daemon.address import engine_address
from light_run.engine.daemon.client import Engine
from light_run.errors import EngineUnavailable, SettingsError
from tests.support.played_engine import PlayedEngine, answer, versioned


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a docker configuration of the test's own, with nothing in the environment."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def make_context(folder: Path, name: str, host: str) -> None:
    """Write a context as ``docker context create`` does, and use it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": host, "SkipTLSVerify": False}
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_local_engine(docker_config: Path) -> None:
    assert engine_address({}).url == "unix:///var/run/docker.sock"
    (docker_config / "config.json").write_text("{}")
    assert engine_address({}).url == "unix:///var/run/docker.sock"


def test_the_context_in_use(docker_config: Path) -> None:
    make_context(docker_config, "first", "unix:///first.sock")
    make_context(docker_config, "second", "tcp://127.0.0.1:2375")
    assert engine_address({}).url == "tcp://127.0.0.1:2375"
    assert engine_address({"DOCKER_CONTEXT": "first"}).url == "unix:///first.sock"
    assert engine_address({"DOCKER_CONTEXT": "default"}).url == "unix:///var/run/docker.sock"
    both = {"DOCKER_CONTEXT": "first", "DOCKER_HOST": "unix:///third.sock"}
    assert engine_address(both).url == "unix:///third.sock"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DOCKER_HOST": "ssh://root@example.com"}, "engines over ssh:// are not supported"),
        ({"DOCKER_HOST": "ftp://x"}, "DOCKER_HOST"),
        ({"DOCKER_HOST": "tcp://x"}, "port is required"),
        ({"DOCKER_HOST": "npipe:////./pipe/docker_engine"}, "only unix:// and tcp://"),
        ({"DOCKER_HOST": "tcp://x:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/none"}, "CERT_PATH"),
        ({"DOCKER_CONTEXT": "nowhere"}, "docker context nowhere does not exist"),
        ({"DOCKER_CONTEXT": "remote"}, "docker context 'remote' is ssh://x: engines over ssh://"),
        ({"DOCKER_CONTEXT": "broken"}, "docker context broken cannot be read"),
    ],
)
def test_what_cannot_be_used(docker_config: Path, environ: dict[str, str], words: str) -> None:
    make_context(docker_config, "remote", "ssh://x")
    make_context(docker_config, "broken", "unix:///x")
    for meta in docker_config.rglob("meta.json"):
        if '"broken"' in meta.read_text():
            meta.write_text("{")
    with pytest.raises(SettingsError) as raised:
        engine_address(environ)
    assert words in str(raised.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(each, raising=False)
    listener = socket.create_server(("127.0.0.1", 0))
    with closing(PlayedEngine(listener, versioned(lambda _: answer([])))) as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        # Nobody listens there.
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        with closing(Engine(timeout=5)) as engine, pytest.raises(EngineUnavailable, match="does not answer"):
            engine.containers("x")
        assert proxy.requests == []
