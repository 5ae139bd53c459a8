"""Images: missing ones, and a private registry on loopback."""

from __future__ import annotations

import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from light_run.config import tokens
from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, engine_api, step_images
from tests.support.registry import PASSWORD, USER, has_image, pulls_of, pushed, registry, write_login
from tests.support.server import Server, free_port, run_request


def test_a_missing_image_is_pulled_from_a_registry_without_password(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data") as address, pushed(address) as image:
        assert not has_image(image)
        state = server.run(image=image, entrypoint="echo pulled")
        assert (state["status"], state["logs"]) == ("succeeded", ["pulled"]), state
        assert has_image(image)
        assert state["timings"]["imageMs"] > 0


def test_it_is_pulled_once_however_many_wait_for_it(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data") as address, pushed(address) as image:
        since = time.time()
        with ThreadPoolExecutor(6) as pool:
            states = list(pool.map(lambda _: server.run(image=image), range(6)))
        assert [state["status"] for state in states] == ["succeeded"] * 6, states
        assert pulls_of(image, since) == 1


def test_a_present_image_is_used_as_it_is(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data") as address, pushed(address) as image:
        assert server.run(image=image)["status"] == "succeeded"
    # The registry is gone.
    with engine_api() as api:
        api.tag(BUSYBOX, image.rpartition(":")[0], "1.0")
        try:
            assert server.run(image=image)["status"] == "succeeded"
        finally:
            api.remove_image(image)


def test_a_registry_with_a_password(start_server: StartServer, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=True) as address, pushed(address, password=True) as image:
        server = start_server(settings={"DOCKER_CONFIG": str(tmp_path / "config")})
        states = [server.run(image=image)]
        # Who logs in while the server is at work, first with a mistake, need not start it anew.
        for password in ("wrong", PASSWORD):
            write_login(tmp_path / "config", address, USER, password)
            states.append(server.run(image=image, entrypoint="echo pulled"))
        assert [state["status"] for state in states] == ["failed", "failed", "succeeded"], states
        for state in states[:2]:
            assert state["reason"] in ("pull_failed", "image_not_found")
            assert image in state["error"]
            assert "exitCode" not in state
        assert states[2]["logs"] == ["pulled"]
        assert PASSWORD not in server.stderr
        assert PASSWORD not in json.dumps(states)


def test_a_password_that_a_program_knows(start_server: StartServer, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=True) as address, pushed(address, password=True) as image:
        said = json.dumps({"ServerURL": address, "Username": USER, "Secret": PASSWORD})
        program = tmp_path / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n[ \"$1 $(cat)\" = 'get {address}' ] && echo '{said}'\n")
        program.chmod(0o755)
        (tmp_path / "config.json").write_text(json.dumps({"credHelpers": {address: "test"}}))
        path = f"{tmp_path}:{os.environ['PATH']}"
        server = start_server(settings={"DOCKER_CONFIG": str(tmp_path), "PATH": path})
        state = server.run(image=image)
        assert state["status"] == "succeeded", state
        program.unlink()
        state = server.run(image=image, pull="always")
    assert (state["reason"], PASSWORD in state["error"]) == ("pull_failed", False)
    assert "docker-credential" in state["error"]


def test_an_image_the_registry_does_not_have(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data") as address:
        image = f"{address}/no/such-image:1"
        state = server.run(image=image)
    assert (state["status"], state["reason"]) == ("failed", "image_not_found")
    assert image in state["error"]
    assert "exitCode" not in state
    assert state["finishedAt"]


def test_a_registry_that_is_not_there(server: Server) -> None:
    state = server.run(image=f"127.0.0.1:{free_port()}/x:1")
    assert (state["status"], state["reason"]) == ("failed", "pull_failed")
    assert "the registry cannot be reached" in state["error"]


def test_many_runs_of_an_image_that_cannot_be_had_all_fail(server: Server) -> None:
    image = f"127.0.0.1:{free_port()}/x:1"
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda _: server.run(image=image), range(4)))
    assert [state["status"] for state in states] == ["failed"] * 4


def test_an_image_given_by_its_id(server: Server) -> None:
    with engine_api() as api:
        image_id = next(image["Id"] for image in api.images(BUSYBOX))
    assert server.run(image=image_id)["status"] == "succeeded"
    assert server.run(image=image_id.removeprefix("sha256:"))["status"] == "succeeded"


@pytest.mark.parametrize("length", [2, 4, 12, 63])
def test_no_image_is_found_by_the_beginning_of_its_id(server: Server, length: int) -> None:
    with engine_api() as api:
        image_id = next(image["Id"] for image in api.images(BUSYBOX)).removeprefix("sha256:")
    state = server.run(image=image_id[:length], pull="never")
    assert (state["status"], state["reason"]) == ("failed", "image_not_found")


def test_tenants_share_no_steps_and_give_no_ids(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    alice, bob = (tokens.create(file, name, ["read", "run"]) for name in ("alice", "bob"))
    server = start_server(settings={"LIGHT_RUN_TOKENS_FILE": str(file)})

    def post(token: str, **fields: Any) -> Any:
        return server.request("POST", "/run", json=run_request(**fields), token=token)

    # As each of them sees it: the second one to ask does not get what the first one's step has made.
    steps = ["head -c 16 /dev/urandom | od -An -tx1 > /root/secret"]
    secrets = [
        post(token, run=steps, entrypoint="cat /root/secret").json()["logs"] for token in (alice, alice, bob)
    ]
    assert secrets[0] == secrets[1] != secrets[2]
    limited = post(alice, run=steps, entrypoint="cat /root/secret", limits={"pids": 50}).json()["logs"]
    assert limited not in secrets
    for made in step_images(server.server_id):
        with engine_api() as api:
            names = api.inspect_image(made)["RepoTags"]  # type: ignore[no-untyped-call]
        for name in [*names, made.removeprefix("sha256:")[:8]]:
            state = post(bob, image=name, pull="never", entrypoint="cat /root/secret").json()
            assert state["reason"] == "image_not_found", name
        refused = post(bob, image=made, entrypoint="cat /root/secret")
        assert refused.status_code == 400
        assert refused.json()["details"][0]["path"] == ["image"]


def test_an_image_name_without_a_tag_is_the_latest(server: Server) -> None:
    assert server.run(image=BUSYBOX.removesuffix(":latest"))["status"] == "succeeded"


def test_a_pull_can_be_cancelled(server: Server) -> None:
    # A registry that takes the connection and never says a word.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run_id = server.start(image=f"127.0.0.1:{silent.getsockname()[1]}/x:1")
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            assert server.cancel(run_id).status_code == 204
            state = server.wait_done(run_id, within=20)
    assert (state["status"], state["reason"]) == ("cancelled", "cancelled")
