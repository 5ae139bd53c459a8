"""The four ways a run may take, and images with every shell this machine has."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_run import Runner, RunSpec
from light_run.engine import Destinations, RunnerConfig, RunResult
from tests.support.abilities import STEPS, under_test
from tests.support.engine import BUSYBOX, PYTHON, engine_api
from tests.support.poll import eventually

# Whether it parks, and how files get in and out.
WAYS = {
    "cold-bind": (False, "bind"),
    "cold-archive": (False, "archive"),
    "parked-bind": (True, "bind"),
    "parked-archive": (True, "archive"),
}
# How many of an image are parked; those that most tests use wait in pairs.
PINNED = {BUSYBOX: 2, PYTHON: 2}
LOG_CAP = 1024 * 1024


@dataclass(frozen=True)
class Way:
    """One way to run."""

    name: str
    runner: Runner
    parked: bool

    def run(self, image: str, entrypoint: str, *, to: Destinations | None = None, **fields: Any) -> RunResult:
        """Run `entrypoint`, and make sure that it went this way."""
        if self.parked:
            self.wait_until_parked()
        result = self.runner.run(RunSpec(image=image, entrypoint=entrypoint, **fields), to=to)
        assert result.parked is self.parked, result
        return result

    def wait_until_parked(self) -> None:
        """Return once a container of each image waits."""
        wanted = sum(self.runner.config.parked_pins.values())
        eventually(lambda: self.runner.parked >= wanted, "containers are parked", within=60)


@contextmanager
def ways(folder: Path, images: list[str]) -> Iterator[dict[str, Way]]:
    """All four, with containers of `images` parked where they park."""
    with ExitStack() as runners:
        found = {}
        for name, (parked, workspace) in WAYS.items():
            config = RunnerConfig(
                server_id=f"test-{uuid.uuid4()}",
                state_dir=folder / name,
                workspace=workspace,
                # Where they differ most: the engine has a part in it only where files go by archive.
                default_network="none",
                log_cap=LOG_CAP,
                # Beside the pins, room for kinds that come to be parked by their use.
                parked_max=16 if parked else 0,
                parked_pins={image: PINNED.get(image, 1) for image in images} if parked else {},
                **under_test().config,
            )
            runner = runners.enter_context(Runner(config))
            if parked:
                runner.open()
            found[name] = Way(name, runner, parked)
        yield found


@contextmanager
def shell_images() -> Iterator[dict[str, str]]:
    """Images by the shell that is their ``sh``: the test images have busybox's, others are made of them."""
    made = {}
    try:
        # They are committed, as those of steps are.
        for name in ("dash", "bash") if under_test().refusal(STEPS) is None else ():
            if program := shutil.which(name):
                made[name] = _with_shell(program)
        yield {"busybox": BUSYBOX, "python": PYTHON, **made}
    finally:
        with engine_api() as api:
            for image in made.values():
                api.remove_image(image, force=True)


def _with_shell(program: str) -> str:
    # The python image has this machine's C library; only the program and what else it needs are added.
    name = f"light-run-test-shell:{uuid.uuid4().hex}"
    repository, tag = name.split(":")
    with engine_api() as api:
        container = api.create_container(PYTHON, entrypoint=["/never-started"])["Id"]
        try:
            assert api.put_archive(container, "/", _tar_of_shell(program))
            api.commit(container, repository, tag, conf={"Entrypoint": [], "Cmd": ["sh"]})
        finally:
            api.remove_container(container, force=True)
    return name


def _tar_of_shell(program: str) -> bytes:
    libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for library in re.findall(r"=> (/\S+)", libraries):
            # Below /usr, where the image's /lib leads, too.
            real = Path(library).resolve()
            tar.add(real, arcname=f"usr/lib/{Path(library).name}")
        tar.add(Path(program).resolve(), arcname="usr/bin/shell")
        link = tarfile.TarInfo("usr/bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "shell"
        tar.addfile(link)
    return buffer.getvalue()
