"""A registry on loopback, images that only it has, and a way to it that can be held up."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import socket
import subprocess
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from tests.support.engine import BUSYBOX, engine_api
from tests.support.poll import eventually
from tests.support.server import REPOSITORY, free_port

USER, PASSWORD = "robot", "registry-canary-1c9e"


@contextmanager
def registry(folder: Path, *, password: bool = False) -> Iterator[str]:
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
def pushed(
    address: str, *, password: bool = False, files: Mapping[str, bytes] | None = None
) -> Iterator[str]:
    """The name of an image of its own that only the registry at `address` has; busybox with `files` in its root."""
    name = f"{address}/team/image-{uuid.uuid4().hex[:8]}:1.0"
    push(name, password=password, files=files)
    with engine_api() as api:
        api.remove_image(name)
        try:
            yield name
        finally:
            eventually(lambda: _removed(api, name.rpartition(":")[0]), f"{name} is gone")


def _removed(api: docker.APIClient, repository: str) -> bool:
    # Whether nothing is there, after removing it: what lost its name and what was built on it, too, and what
    # a server may have parked of it meanwhile.
    images = api.images(filters={"label": f"made-for={repository}"})
    for image in images:
        for container in api.containers(all=True, filters={"ancestor": image["Id"]}):
            with suppress(docker.errors.APIError):
                api.remove_container(container["Id"], force=True, v=True)
        with suppress(docker.errors.APIError):
            api.remove_image(image["Id"], force=True)
    return not images


def push(name: str, *, password: bool = False, files: Mapping[str, bytes] | None = None) -> str:
    """Make an image of busybox and `files`, push it as `name`; the id of the image, which the engine keeps."""
    repository, _, tag = name.rpartition(":")
    auth = {"username": USER, "password": PASSWORD} if password else None
    with engine_api() as api:
        # A label makes it another image than the one the engine has: pulling it takes its own blobs.
        container = api.create_container(BUSYBOX, labels={"made-for": repository})
        try:
            if files:
                api.put_archive(container["Id"], "/", _tar(files))
            made: str = api.commit(container["Id"], repository, tag)["Id"]
        finally:
            api.remove_container(container["Id"])
        for event in api.push(repository, tag, stream=True, decode=True, auth_config=auth):
            assert "error" not in event, event
    return made


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def write_login(folder: Path, address: str, user: str, password: str) -> None:
    """Do what ``docker login`` does, in the docker configuration in `folder`."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    folder.mkdir(exist_ok=True)
    new = folder / "config.json.new"
    new.write_text(json.dumps({"auths": {address: {"auth": auth}}}))
    new.replace(folder / "config.json")


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


class Gate:
    """A way to `target` (host:port) whose answers stop after so many bytes until it is opened."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = threading.Event()
        self._open.set()
        self._left = 0
        self._stop_reader, self._stop = os.pipe()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hold_after(self, count: int) -> None:
        """Let `count` bytes of answers through from here on, and no more until `open`."""
        self._left = count
        self._open.clear()

    def open(self) -> None:
        """Let everything through."""
        self._open.set()

    def close(self) -> None:
        """Break every connection."""
        self._open.set()
        os.close(self._stop)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        os.close(self._stop_reader)

    def _accept(self) -> None:
        sources: list[Any] = [self._listener, self._stop_reader]
        while self._listener in select.select(sources, [], [])[0]:
            near = self._listener.accept()[0]
            thread = threading.Thread(target=self._serve, args=(near,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far, suppress(OSError):
            sources: list[Any] = [near, far, self._stop_reader]
            while True:
                ready = select.select(sources, [], [])[0]
                if self._stop_reader in ready:
                    return
                for one, other in ((near, far), (far, near)):
                    if one in ready:
                        data = one.recv(1 << 16)
                        if not data:
                            return
                        if one is far:
                            self._pass()
                            self._left -= len(data)
                        other.sendall(data)

    def _pass(self) -> None:
        if self._left <= 0:
            assert self._open.wait(60)


@contextmanager
def gate(target: str) -> Iterator[Gate]:
    """A `Gate` that is closed afterwards."""
    made = Gate(target)
    try:
        yield made
    finally:
        made.close()
