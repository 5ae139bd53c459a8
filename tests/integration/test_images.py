"""Images: missing ones, and a private registry on loopback."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import docker.errors
import pytest
import requests

from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, engine_api
from tests.support.poll import eventually
from tests.support.server import REPOSITORY, Server, free_port

USER, PASSWORD = "robot", "registry-canary-1c9e"


@contextmanager
def registry(folder: Path, *, password: bool) -> Iterator[str]:
    """``127.0.0.1:PORT`` of a registry that keeps its data in `folder`."""
    port = free_port()
    command = [str(REPOSITORY / "scripts" / "registry"), str(port), str(folder)]
    if password:
        command += ["--password", f"{USER}:{PASSWORD}"]
    folder.mkdir()
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def answers() -> bool:
            assert process.poll() is None, "the registry exited"
            try:
                return requests.get(f"http://127.0.0.1:{port}/v2/", timeout=5).status_code in (200, 401)
            except requests.ConnectionError:
                return False

        eventually(answers, "the registry answers")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def pushed(address: str, *, password: bool) -> Iterator[str]:
    """The name of an image of its own that only the registry at `address` has."""
    repository, tag = f"{address}/team/image-{uuid.uuid4().hex[:8]}", "1.0"
    auth = {"username": USER, "password": PASSWORD} if password else None
    with engine_api() as api:
        # A label makes it another image than the one the engine has: pulling it takes its own blobs.
        container = api.create_container(BUSYBOX, labels={"made-for": repository})
        try:
            api.commit(container["Id"], repository, tag)
        finally:
            api.remove_container(container["Id"])
        for event in api.push(repository, tag, stream=True, decode=True, auth_config=auth):
            assert "error" not in event, event
        api.remove_image(f"{repository}:{tag}")
        try:
            yield f"{repository}:{tag}"
        finally:
            eventually(lambda: removed(api, repository), f"{repository} is gone")


def removed(api: docker.APIClient, repository: str) -> bool:
    """Whether no image of `repository` is there, after removing it and what is parked of it."""
    images = api.images(filters={"label": f"made-for={repository}"})
    for image in images:
        for container in api.containers(all=True, filters={"ancestor": image["Id"]}):
            with suppress(docker.errors.APIError):
                api.remove_container(container["Id"], force=True, v=True)
        with suppress(docker.errors.APIError):
            api.remove_image(image["Id"], force=True)
    return not images


def docker_config(folder: Path, address: str, user: str, password: str) -> dict[str, str]:
    """The environment with a docker configuration that has credentials for `address`."""
    folder.mkdir()
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    return {"DOCKER_CONFIG": str(folder)}


def has_image(name: str) -> bool:
    """Whether the engine has the image."""
    with engine_api() as api:
        return any(name in (image["RepoTags"] or ()) for image in api.images())


def pulls_of(image: str, since: float) -> int:
    """How often the engine has pulled `image` since a moment."""
    with engine_api() as api:
        filters = {"type": "image", "event": "pull"}
        events = list(api.events(since=int(since), until=int(time.time()) + 1, filters=filters, decode=True))
    return sum(event["id"] == image for event in events)


def test_a_missing_image_is_pulled_from_a_registry_without_password(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=False) as address, pushed(address, password=False) as image:
        assert not has_image(image)
        state = server.run(image=image, entrypoint="echo pulled")
        assert (state["status"], state["logs"]) == ("succeeded", ["pulled"]), state
        assert has_image(image)
        assert state["timings"]["imageMs"] > 0


def test_it_is_pulled_once_however_many_wait_for_it(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=False) as address, pushed(address, password=False) as image:
        since = time.time()
        with ThreadPoolExecutor(6) as pool:
            states = list(pool.map(lambda _: server.run(image=image), range(6)))
        assert [state["status"] for state in states] == ["succeeded"] * 6, states
        assert pulls_of(image, since) == 1


def test_a_present_image_is_used_as_it_is(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=False) as address, pushed(address, password=False) as image:
        assert server.run(image=image)["status"] == "succeeded"
    # The registry is gone.
    with engine_api() as api:
        api.tag(BUSYBOX, image.rpartition(":")[0], "1.0")
        try:
            assert server.run(image=image)["status"] == "succeeded"
        finally:
            api.remove_image(image)


def test_a_registry_with_a_password_and_the_right_one(start_server: StartServer, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=True) as address, pushed(address, password=True) as image:
        server = start_server(settings=docker_config(tmp_path / "config", address, USER, PASSWORD))
        state = server.run(image=image, entrypoint="echo pulled")
        assert (state["status"], state["logs"]) == ("succeeded", ["pulled"]), state
        assert PASSWORD not in server.stderr
        assert PASSWORD not in json.dumps(state)


@pytest.mark.parametrize("case", ["no password", "a wrong password"])
def test_a_registry_with_a_password_and_not_the_right_one(
    start_server: StartServer, tmp_path: Path, case: str
) -> None:
    with registry(tmp_path / "data", password=True) as address, pushed(address, password=True) as image:
        wrong = docker_config(tmp_path / "config", address, USER, "wrong")
        nothing = {"DOCKER_CONFIG": str(tmp_path / "home")}
        server = start_server(settings=nothing if case == "no password" else wrong)
        state = server.run(image=image)
        assert state["status"] == "failed"
        assert state["reason"] in ("pull_failed", "image_not_found")
        assert image in state["error"]
        assert "exitCode" not in state
        assert not has_image(image)


def test_an_image_the_registry_does_not_have(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data", password=False) as address:
        image = f"{address}/no/such-image:1"
        state = server.run(image=image)
    assert (state["status"], state["reason"]) == ("failed", "image_not_found")
    assert image in state["error"]
    assert "exitCode" not in state
    assert state["finishedAt"]


def test_a_registry_that_is_not_there(server: Server) -> None:
    state = server.run(image=f"127.0.0.1:{free_port()}/x:1")
    assert (state["status"], state["reason"]) == ("failed", "pull_failed")
    assert "connection refused" in state["error"].lower()


def test_many_runs_of_an_image_that_cannot_be_had_all_fail(server: Server) -> None:
    image = f"127.0.0.1:{free_port()}/x:1"
    with ThreadPoolExecutor(4) as pool:
        states = list(pool.map(lambda _: server.run(image=image), range(4)))
    assert [state["status"] for state in states] == ["failed"] * 4


def test_an_image_given_by_its_id(server: Server) -> None:
    with engine_api() as api:
        image_id = next(image["Id"] for image in api.images(BUSYBOX))
    assert server.run(image=image_id)["status"] == "succeeded"
    assert server.run(image=image_id.removeprefix("sha256:")[:12])["status"] == "succeeded"


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
