"""Starts a Podman engine for tests, with Docker's API on its own socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engine import engine_api
from tests.support.poll import eventually
from tests.support.private_engine import answers, copy_images
from tests.support.rootless import OrdinaryUser

START_SECONDS = 60.0
STOP_SECONDS = 30.0
# Where Podman looks for an image whose name has no registry, as Docker does.
_REGISTRY = "docker.io/"


@contextmanager
def podman_engine(*images: str, user: OrdinaryUser | None = None) -> Iterator[str]:
    """The address of a running Podman that has `images`, copied from the machine's own engine; gone afterwards.

    It is root's, or that of the ordinary `user`.
    """
    assert shutil.which("podman"), "podman is needed: apt-get install podman catatonit"
    folder = Path(tempfile.mkdtemp(prefix="light-run-podman-"))
    address = f"unix://{folder}/engine.sock"
    service = ["podman", *_folders(folder, user), "system", "service", "--time", "0", address]
    # Root's is in a network of its own, as every private engine; a user's makes one.
    command = ["unshare", "--net", "--", *service] if user is None else user.command(service, alone=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            # It leaves files where it works.
            cwd=folder,
            env=None if user is None else user.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: _answers(process, folder, address), "Podman answers", within=START_SECONDS)
        copy_images(images, address)
        with engine_api(address) as api:
            for image in images:
                name, _, tag = image.rpartition(":")
                api.tag(f"localhost/{image}", _REGISTRY + name, tag)
        yield address
        with engine_api(address) as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True)
    finally:
        # A user's is in a pid namespace of its own, with all that it has started.
        process.terminate() if user is None else process.kill()
        process.wait(STOP_SECONDS)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(str(folder)):
                subprocess.run(["umount", "--lazy", mounted], check=True)
        shutil.rmtree(folder)


def _folders(folder: Path, user: OrdinaryUser | None) -> list[str]:
    names = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "networks"}
    found = [f"--{option}={folder / name}" for option, name in names.items()]
    for name in names.values():
        (folder / name).mkdir()
    if user is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.uid, user.uid)
    return [*found, "--cgroup-manager=cgroupfs", "--runtime=runc"]


def _answers(process: subprocess.Popen[bytes], folder: Path, address: str) -> bool:
    code = process.poll()
    assert code is None, f"podman exited with {code}:\n{(folder / 'log').read_text()[-2000:]}"
    return answers(address)
