"""Folders of the state directory that somebody removes by hand while the server runs."""

from __future__ import annotations

import shutil
import stat

from tests.integration.conftest import StartServer
from tests.support.engine import is_parked
from tests.support.poll import eventually
from tests.support.server import Server, log_events

WORK = {"entrypoint": "echo out; cat main.txt; echo kept > kept", "extract": ["kept"]}


def test_folders_that_were_removed_are_made_again(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_SWEEP_INTERVAL": "1"})
    # Twice in a row: from now on, containers are parked, with workspaces of their own.
    for _ in range(2):
        before = server.run(**WORK)
    eventually(lambda: any(map(is_parked, server.all_containers())), "a container is parked")
    folders = [server.artifacts_dir, *(each for each in server.state_dir.iterdir() if each.is_dir())]
    assert {"artifacts", "workspaces", "logs"} <= {each.name for each in folders}
    for each in folders:
        shutil.rmtree(each)
    state = server.run(**WORK, run=["true"])
    assert (state["status"], state["logs"]) == ("succeeded", ["out", "hello"]), state
    assert server.artifact(state["id"], "kept").text == "kept\n"
    for path in ("", "/logs", "/output", "/artifacts"):
        assert server.get(f"/runs/{before['id']}{path}").status_code in (200, 404), path
    assert server.get("/info").status_code == 200
    assert server.request("POST", "/maintenance").json()["failed"] == []
    eventually((server.artifacts_dir / state["id"]).exists, "the sweeper keeps what is there")
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folders if each.exists()}
    assert set(modes.values()) == {0o700}, modes
    assert server.stop() == 0
    assert "Traceback" not in server.stderr


def test_a_queued_run_whose_files_are_gone_is_not_run_without_them(start_server: StartServer) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    holding = server.start(entrypoint="echo up; sleep 600")
    server.wait_output(holding, "up")
    queued = server.start(entrypoint="true")
    shutil.rmtree(server.state_dir / "workspaces" / queued)
    server.cancel(holding)
    state = server.wait_done(queued)
    assert (state["status"], state["reason"]) == ("failed", "start_failed"), state
    assert "files are gone" in state["error"]


def test_no_path_of_the_host_is_in_the_error_of_a_run(server: Server) -> None:
    # The runtime cannot make a folder below a file, and says where on the host that was.
    state = server.run(entrypoint="true", workdir="/etc/passwd/below")
    assert (state["status"], state["reason"]) == ("failed", "start_failed"), state
    assert "[a path of the host]" in state["error"], state
    assert "/var/lib" not in state["error"]
    assert str(server.state_dir) not in state["error"]
    assert any(
        state["id"] == event.get("run") and "/overlay2/" in str(event) for event in log_events(server.stderr)
    )
