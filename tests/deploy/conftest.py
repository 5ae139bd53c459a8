"""Real gunicorn with ``deploy/gunicorn.conf.py``, and real nginx with ``deploy/nginx.conf`` in front of it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import requests

from tests.support.engine import missing_images
from tests.support.nginx import USER, running_nginx
from tests.support.poll import eventually
from tests.support.server import REPOSITORY, Server, free_port, running_server

CONFIGURATION = REPOSITORY / "deploy" / "gunicorn.conf.py"
COMMAND = [sys.executable, "-m", "gunicorn", "-c", str(CONFIGURATION)]
ACCEL = "/internal-artifacts"
SLOW_SECONDS = 63


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Fail everything where there is no engine, or where it lacks an image."""
    missing = missing_images()
    assert not missing, f"run make test-engine first; missing: {', '.join(missing)}"


@dataclass(frozen=True)
class Front:
    """gunicorn as `direct`, and the same server as it is seen through nginx."""

    direct: Server
    proxied: Server


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every user may go through, as nginx's workers are not who we are."""
    folder = Path(tempfile.mkdtemp(prefix="light-run-deploy-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give_to_nginx(artifacts: Path) -> None:
    """What the systemd unit does before light-run starts: the artifact folder belongs to nginx's group."""
    artifacts.mkdir()
    if os.geteuid() == 0:
        shutil.chown(artifacts, group=USER)
    artifacts.chmod(0o2750)


@contextmanager
def running_front(folder: Path, **settings: str) -> Iterator[Front]:
    """gunicorn behind nginx, everything under `folder`."""
    folder.mkdir()
    folder.chmod(0o711)
    give_to_nginx(folder / "artifacts")
    port = free_port()
    with (
        running_server(
            folder,
            command=COMMAND,
            port=port,
            umask=0o027,
            settings={"LIGHT_RUN_PORT": str(port), "LIGHT_RUN_TRUSTED_PROXIES": "127.0.0.1,::1", **settings},
        ) as direct,
        running_nginx(folder / "nginx", upstream=port, artifacts=folder / "artifacts") as url,
    ):
        yield Front(direct, replace(direct, url=url))


@pytest.fixture(scope="session")
def fronts() -> Iterator[dict[str, Front]]:
    """Two servers behind an nginx each: one sends artifacts itself, one leaves it to nginx."""
    with open_folder() as folder, ExitStack() as stack:
        yield {
            "proxied": stack.enter_context(running_front(folder / "proxied")),
            "accelerated": stack.enter_context(running_front(folder / "accelerated", LIGHT_RUN_ACCEL=ACCEL)),
        }


@pytest.fixture
def front(fronts: dict[str, Front]) -> Front:
    """The one that sends artifacts itself."""
    return fronts["proxied"]


@pytest.fixture(params=["proxied", "accelerated"])
def either_front(request: pytest.FixtureRequest, fronts: dict[str, Front]) -> Front:
    """Each of the two in turn."""
    return fronts[request.param]


@dataclass
class SlowRun:
    """A synchronous run that is silent for longer than nginx waits by default."""

    thread: threading.Thread
    answers: list[requests.Response] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)


@pytest.fixture(scope="session")
def slow_run(fronts: dict[str, Front]) -> Iterator[SlowRun]:
    """One that was begun before everything else, and goes on beside it."""
    proxied = fronts["proxied"].proxied

    def send() -> None:
        try:
            slow.answers.append(proxied.post_run(entrypoint=f"echo begun; sleep {SLOW_SECONDS}; echo ended"))
        except requests.RequestException as error:
            slow.errors.append(error)

    slow = SlowRun(threading.Thread(target=send, name="slow run"))
    slow.thread.start()
    # Its connection must be there before a test counts what this process has open.
    eventually(lambda: proxied.get("/runs?status=running").json(), "the slow run is under way")
    yield slow
    # Nobody has waited for it where its test was not among those chosen.
    for run in proxied.get("/runs?status=running").json():
        proxied.cancel(run["id"])
    slow.thread.join()


@pytest.fixture(autouse=True)
def begin_slow_run(slow_run: SlowRun) -> None:
    """Begin the slow run before the first test of this folder."""
