"""When images are pulled, and what can be seen of it meanwhile."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from light_run.config import tokens
from light_run.engine.images import platforms
from tests.integration.conftest import StartServer
from tests.support.engine import BUSYBOX, engine_api
from tests.support.poll import eventually
from tests.support.registry import gate, pulls_of, push, pushed, registry
from tests.support.server import RunState, Server, free_port, run_request

MIB = 1 << 20


def wait_state(server: Server, run_id: str, **wanted: Any) -> RunState:
    """The state of a run once it has everything `wanted`."""

    def look() -> RunState | None:
        state = server.state(run_id)
        return state if wanted.items() <= state.items() else None

    state = eventually(look, f"run {run_id} is {wanted}")
    assert state is not None
    return state


def test_how_far_a_pull_is(server: Server, tmp_path: Path) -> None:
    layer = os.urandom(6 * MIB)
    with (
        registry(tmp_path / "data") as address,
        gate(address) as way,
        pushed(way.address, files={"large": layer}) as image,
    ):
        since = time.time()
        way.hold_after(4 * MIB)
        ids = [
            server.start(image=image, pull=pull, entrypoint="wc -c </large") for pull in ("missing", "always")
        ]

        def look() -> list[dict[str, Any]]:
            found = [server.state(run_id).get("progress") or {} for run_id in ids]
            return found if all(one.get("currentBytes") for one in found) else []

        for progress in eventually(look, "some of it was downloaded"):
            assert progress["layers"] > progress["done"] >= 0
            assert 0 < progress["currentBytes"] < progress["totalBytes"]
            assert progress["totalBytes"] >= 6 * MIB
        states = [server.state(run_id) for run_id in ids]
        assert {(state["status"], state["phase"]) for state in states} == {("running", "pulling")}
        # Lists show it too.
        assert {run["phase"] for run in server.get("/runs?limit=2").json()} == {"pulling"}
        way.open()
        for run_id in ids:
            state = server.wait_done(run_id)
            assert (state["status"], state["logs"]) == ("succeeded", [str(6 * MIB)]), state
            assert not {"phase", "progress"} & set(state)
        # One of the two asked for it always, but not one after the other.
        assert pulls_of(image, since) == 1


def test_a_pull_holds_no_slot(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(settings={"LIGHT_RUN_MAX_CONCURRENCY": "1"})
    with (
        registry(tmp_path / "data") as address,
        gate(address) as way,
        pushed(way.address, files={"large": os.urandom(MIB)}) as image,
    ):
        way.hold_after(MIB // 2)
        run_id = server.start(image=image, entrypoint="wc -c </large")
        wait_state(server, run_id, phase="pulling")
        assert server.run(entrypoint="echo meanwhile")["logs"] == ["meanwhile"]
        cancelled = server.start(image=image)
        wait_state(server, cancelled, phase="pulling")
        assert server.cancel(cancelled).status_code == 204
        assert server.state(cancelled)["status"] == "cancelled"
        assert server.state(run_id)["phase"] == "pulling"
        way.open()
        assert server.wait_done(run_id)["logs"] == [str(MIB)]


def test_phases_of_a_run(server: Server) -> None:
    steps = ["true", "sleep 60"]
    run_id = server.start(run=steps)
    state = wait_state(server, run_id, phase="building", progress={"steps": 2, "done": 1})
    assert state["status"] == "running"
    assert server.cancel(run_id).status_code == 204
    run_id = server.start(entrypoint="sleep 60")
    assert "progress" not in wait_state(server, run_id, phase="running")
    assert server.cancel(run_id).status_code == 204
    assert not {"phase", "progress"} & set(server.wait_done(run_id))


def test_never(server: Server) -> None:
    assert server.run(pull="never")["status"] == "succeeded"
    image = f"127.0.0.1:{free_port()}/x:1"
    state = server.run(image=image, pull="never")
    assert (state["status"], state["reason"]) == ("failed", "image_not_found")
    assert image in state["error"]
    assert "never" in state["error"]


def test_always_has_what_the_registry_has(server: Server, tmp_path: Path) -> None:
    def version(pull: str, **fields: Any) -> list[str]:
        state = server.run(image=image, pull=pull, **{"entrypoint": "cat /version", **fields})
        assert state["status"] == "succeeded", state
        logs: list[str] = state["logs"]
        return logs

    steps = {"run": [f"cp /version /baked-{time.time()}"], "entrypoint": "cat /baked*"}
    with registry(tmp_path / "data") as address, pushed(address, files={"version": b"1"}) as image:
        # Often enough for a container to be parked.
        assert [version("missing") for _ in range(3)] == [["1"]] * 3
        assert version("missing", **steps) == ["1"]
        with engine_api() as api:
            old = api.inspect_image(image)["Id"]  # type: ignore[no-untyped-call]
            push(image, files={"version": b"2"})
            api.tag(old, image.rpartition(":")[0], "1.0", force=True)
        assert version("missing") == version("never") == ["1"]
        # What was baked and parked of the old one is not used for the new one.
        assert version("always") == version("missing") == ["2"]
        assert version("always", **steps) == ["2"]


def test_always_fails_where_the_registry_cannot_be_had(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "data") as address, ExitStack() as stack:
        way = stack.enter_context(gate(address))
        with pushed(way.address) as image:
            assert server.run(image=image, pull="always")["status"] == "succeeded"
            with engine_api() as api:
                # Another that the engine has, and the registry does not.
                other = image.replace("team/", "nobody/")
                api.tag(image, other.rpartition(":")[0], "1.0")
            try:
                assert server.run(image=other, pull="always")["reason"] == "image_not_found"
                assert server.run(image=other)["status"] == "succeeded"
            finally:
                with engine_api() as api:
                    api.remove_image(other)
            stack.close()
            assert server.run(image=image, pull="always")["reason"] == "pull_failed"
            assert server.run(image=image)["status"] == "succeeded"


@pytest.mark.parametrize("value", ["sometimes", "", None, True, ["always"], "ALWAYS"])
def test_another_word_is_a_fault(server: Server, value: object) -> None:
    response = server.request("POST", "/run", json=run_request(pull=value))
    assert response.status_code == 400
    (fault,) = response.json()["details"]
    assert fault["path"] == ["pull"]
    if isinstance(value, str):
        assert "missing, always, never" in fault["message"]


def test_what_the_server_does_where_nothing_is_asked(start_server: StartServer) -> None:
    image = f"127.0.0.1:{free_port()}/x:1"
    server = start_server(settings={"LIGHT_RUN_PULL": "never"})
    assert server.run(image=image)["reason"] == "image_not_found"
    assert server.run(image=image, pull="never")["reason"] == "image_not_found"
    for pull in ("missing", "always"):
        response = server.request("POST", "/run", json=run_request(image=image, pull=pull))
        assert response.status_code == 400
        (fault,) = response.json()["details"]
        assert (fault["path"], fault["code"]) == (["pull"], "not_allowed"), fault
        assert "this server never pulls" in fault["message"]


def test_a_pull_has_a_time(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(settings={"LIGHT_RUN_PULL_TIMEOUT": "2", "LIGHT_RUN_MAX_CONCURRENCY": "1"})
    with (
        registry(tmp_path / "data") as address,
        gate(address) as way,
        pushed(way.address, files={"large": os.urandom(6 * MIB)}) as image,
    ):
        way.hold_after(4 * MIB)
        state = server.run(image=image)
        assert (state["status"], state["reason"]) == ("failed", "pull_failed"), state
        assert image in state["error"]
        assert "within 2 s (LIGHT_RUN_PULL_TIMEOUT)" in state["error"]
        # Its slot is free, and the engine has given the pull up.
        assert server.run(entrypoint="echo next")["logs"] == ["next"]
        way.open()
        assert server.run(image=image)["status"] == "succeeded"


@contextmanager
def web_service(body: bytes) -> Iterator[str]:
    """The address of a service that is no registry: it answers everything with `body`."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as service:
        thread = Thread(target=service.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{service.server_port}"
        service.shutdown()
        thread.join()


def test_a_pull_shows_nothing_of_the_operators_network(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    alice = tokens.create(file, "alice", ["read", "run"])
    admin = tokens.create(file, "root", ["admin", "run"])
    settings = {"LIGHT_RUN_TOKENS_FILE": str(file), "LIGHT_RUN_TOKEN": "the-operators-own-token"}
    server = start_server(settings=settings)

    def run(token: str, image: str) -> RunState:
        response = server.request("POST", "/run", json=run_request(image=image), token=token)
        state: RunState = response.json()
        return state

    with web_service(b"<h1>SECRET</h1>") as address:
        for token in (alice, admin, "the-operators-own-token"):
            state = run(token, f"{address}/x/y")
            assert state["status"] == "failed", state
            assert "SECRET" not in json.dumps(state)
            assert ("LIGHT_RUN_REGISTRIES" in state["error"]) == (token == alice), state
    with registry(tmp_path / "data") as address, pushed(address) as image:
        assert run(alice, image)["reason"] == "pull_failed"
        assert run(alice, image.replace("127.0.0.1", "localhost"))["reason"] == "pull_failed"
        server.stop()
        allowing = start_server(settings={**settings, "LIGHT_RUN_REGISTRIES": "127.0.0.1:*"})
        response = allowing.request("POST", "/run", json=run_request(image=image), token=alice)
        assert response.json()["status"] == "succeeded", response.json()


@contextmanager
def of_another_platform(name: str) -> Iterator[None]:
    """The engine has busybox under `name`, as an image for s390x."""
    with engine_api() as api:
        saved = io.BytesIO(b"".join(api.get_image(BUSYBOX)))
        changed = io.BytesIO()
        with tarfile.open(fileobj=saved) as tar, tarfile.open(fileobj=changed, mode="w") as out:
            (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
            for member in tar.getmembers():
                content = tar.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
                if member.name == manifest["Config"]:
                    content = json.dumps({**json.loads(content), "architecture": "s390x"}).encode()
                    manifest["Config"] = member.name = f"{hashlib.sha256(content).hexdigest()}.json"
                elif member.name in ("manifest.json", "repositories"):
                    continue
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
            content = json.dumps([{**manifest, "RepoTags": [name]}]).encode()
            entry = tarfile.TarInfo("manifest.json")
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
        list(api.load_image(changed.getvalue()))  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            api.remove_image(name, force=True)


def test_platforms(server: Server) -> None:
    with engine_api() as api:
        own = platforms.of_engine(api.info())
    assert server.run(entrypoint="uname -s", platform=own)["logs"] == ["Linux"]
    other = "linux/s390x" if own != "linux/s390x" else "linux/amd64"
    refused = server.run(entrypoint="true", platform=other)
    assert (refused["reason"], refused["error"]) == (
        "start_failed",
        f"platform '{other}': this engine runs containers for {own} only",
    )
    assert server.post_run(entrypoint="true", platform="windows").json()["details"][0]["path"] == ["platform"]
    name = f"light-run-test/other-platform:{os.urandom(4).hex()}"
    with of_another_platform(name):
        unsuitable = server.run(image=name, entrypoint="true", platform=own, pull="never")
        assert unsuitable["reason"] == "image_not_found"
        assert f"is for linux/s390x, not {own}" in unsuitable["error"]
