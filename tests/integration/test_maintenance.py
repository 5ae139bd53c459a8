"""Maintenance: what nobody uses any more is removed, and nothing else."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from light_run.client import Client, Maintenance
from tests.support.engine import BUSYBOX, engine_api, step_images
from tests.support.poll import eventually
from tests.support.server import Server, run_cli, running_server

MIB = 1 << 20
# Seconds.
MINUTE, DAY = 60, 86_400


def age(server: Server, keys: set[str], seconds: float) -> None:
    """Have images of steps been used so long ago; the server must not be running."""
    for key in keys:
        os.utime(server.state_dir / "step-images" / key, (time.time() - seconds,) * 2)


def keys(server: Server) -> set[str]:
    """The keys of the images of steps that the server has made."""
    with engine_api() as api:
        made = api.images(filters={"label": f"light-run.cache={server.server_id}"})
    return {name.partition(":")[2] for image in made for name in image["RepoTags"] or ()}


def build(server: Server, *steps: str) -> set[str]:
    """Run steps that nobody else has, each of which writes a MiB; the keys of their images."""
    before = keys(server)
    fill = "dd if=/dev/urandom bs=1M count=1 2>/dev/null"
    state = server.run(run=[f"echo {uuid.uuid4()}; {fill} of=/{name}" for name in steps])
    assert state["status"] == "succeeded", state
    return keys(server) - before


@pytest.fixture
def stranger() -> Iterator[str]:
    """The image of a step that another server has made; its id."""
    with engine_api() as api:
        container = api.create_container(BUSYBOX, "true")["Id"]
        labels = {"light-run.cache": "another-server"}
        image: str = api.commit(container, "light-run-cache", "0" * 64, conf={"Labels": labels})["Id"]
        api.remove_container(container)
        yield image
        api.remove_image(image, force=True)


def done_at_start(server: Server) -> Maintenance:
    """The report of the maintenance that the server does when it starts."""
    report = eventually(lambda: Client(server.url, server.token).info().maintenance, "maintenance was done")
    assert report is not None
    return report


def test_step_images_go_by_age_and_by_bytes(tmp_path: Path, stranger: str) -> None:
    with ExitStack() as servers:
        first = servers.enter_context(running_server(tmp_path))
        old = build(first, "a", "b")
        older, newer, used = (build(first, "a") for _ in range(3))
        # Within the age and the bytes, nothing is removed.
        report = Client(first.url, first.token).maintain()
        assert (report.cache_images, report.dangling_images, report.failed) == (0, 0, ())
        first.stop()
        age(first, old, 8 * DAY)
        age(first, older, 30 * MINUTE)
        age(first, newer, 20 * MINUTE)
        settings = {"LIGHT_RUN_STEP_IMAGES_BYTES": str(2 * MIB + MIB // 2)}
        second = servers.enter_context(running_server(tmp_path, settings=settings))
        report = done_at_start(second)
        assert (report.cache_images, report.failed) == (3, ())
        assert 3 * MIB <= report.freed_bytes < 4 * MIB
        assert keys(second) == newer | used
        assert stranger in step_images("another-server")


def test_an_image_in_use_is_kept(tmp_path: Path) -> None:
    step = [f"echo {uuid.uuid4()}"]
    with ExitStack() as servers:
        first = servers.enter_context(running_server(tmp_path))
        run_id = first.start(run=step, entrypoint="echo up; sleep 60")
        first.wait_output(run_id, "up")
        made = keys(first)
        first.kill()
        age(first, made, 8 * DAY)
        second = servers.enter_context(running_server(tmp_path))
        assert (done_at_start(second).cache_images, keys(second)) == (0, made)
        assert second.state(run_id)["status"] == "running"
        second.cancel(run_id)


def test_stray_containers_and_workspaces(server: Server) -> None:
    workspaces = server.state_dir / "workspaces"
    run_id = server.start(entrypoint="echo up; sleep 60")
    server.wait_output(run_id, "up")
    stray, young = (workspaces / str(uuid.uuid4()) for _ in range(2))
    for folder in (stray, young):
        (folder / "files").mkdir(parents=True)
    for folder in workspaces.iterdir():
        if folder != young:
            os.utime(folder, (time.time() - DAY,) * 2)
    labels = {"light-run.server": server.server_id, "light-run.kind": "run", "light-run.run": "gone"}
    with engine_api() as api:
        ours = api.create_container(BUSYBOX, "true", labels=labels)["Id"]
        other = api.create_container(
            BUSYBOX, "true", labels={**labels, "light-run.server": "another-server"}
        )["Id"]
        settings = {"LIGHT_RUN_URL": server.url, "LIGHT_RUN_TOKEN": server.token or ""}
        done = run_cli(server.folder / "cli", "maintenance", settings=settings)
        assert done.returncode == 0, done.stderr
        removed = dict(line.split("\t") for line in done.stdout.splitlines())
        assert (int(removed["containers"]) >= 1, removed["workspaces"]) == (True, "1")
        left = {each["Id"] for each in api.containers(all=True, filters={"label": "light-run.run=gone"})}
        assert (ours in left, other in left) == (False, True)
        api.remove_container(other)
    assert not stray.exists()
    assert young.exists()
    (young / "files").rmdir()
    young.rmdir()
    assert server.state(run_id)["status"] == "running"
    server.cancel(run_id)


def test_the_scope_is_admin(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    made = run_cli(
        tmp_path, "token", "new", "ci", settings={"LIGHT_RUN_TOKENS_FILE": str(tokens)}
    ).stdout.strip()
    with running_server(tmp_path / "server", settings={"LIGHT_RUN_TOKENS_FILE": str(tokens)}) as server:
        assert server.request("POST", "/maintenance", token=made).status_code == 403
        assert server.request("POST", "/maintenance").status_code == 200
