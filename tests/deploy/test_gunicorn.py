"""``deploy/gunicorn.conf.py``, and the refusal of a second worker."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import COMMAND
from tests.support.processes import thread_count
from tests.support.server import free_port, log_events, running_server


def test_the_configuration_is_used(tmp_path: Path) -> None:
    port = free_port()
    settings = {"LIGHT_RUN_PORT": str(port), "LIGHT_RUN_THREADS": "5"}
    with running_server(tmp_path, command=COMMAND, port=port, settings=settings) as server:
        assert server.run(entrypoint="cat main.txt")["logs"] == ["hello"]
        # One master and one worker.
        assert len(server.processes()) == 2
        assert all(thread_count(pid) < 40 for pid in server.processes())
        assert server.stop() == 0
        lines = server.stderr.strip().splitlines()
        assert len(log_events(server.stderr)) == len(lines), "not every line is JSON"
        assert server.stdout == ""


def test_host_and_token_come_from_the_environment(tmp_path: Path) -> None:
    port = free_port()
    settings = {"LIGHT_RUN_PORT": str(port), "LIGHT_RUN_HOST": "127.0.0.3"}
    url = f"http://127.0.0.3:{port}"
    with running_server(tmp_path, command=COMMAND, port=port, url=url, settings=settings) as server:
        assert server.get("/runs").status_code == 200
        assert server.get("/runs", token="").status_code == 401


@pytest.mark.parametrize("options", [["-w", "2"], ["--workers", "3"]])
def test_more_workers_are_refused(tmp_path: Path, options: list[str]) -> None:
    port = free_port()
    settings = {"LIGHT_RUN_PORT": str(port)}
    server = running_server(tmp_path, command=COMMAND, options=options, port=port, settings=settings)
    with pytest.raises(AssertionError, match="the server exited with"), server:
        pass
    stderr = (tmp_path / "stderr").read_text()
    assert "cannot work with" in stderr
    assert "workers" in stderr


def test_preloading_is_refused(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--preload",
        "--bind",
        f"127.0.0.1:{port}",
        "light_run:create_app()",
    ]
    with (
        pytest.raises(AssertionError, match="the server exited with"),
        running_server(tmp_path, command=command, port=port),
    ):
        pass
    stderr = (tmp_path / "stderr").read_text()
    assert "preload" in stderr
