"""Starts a Podman engine for tests, with Docker's API on its own socket."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.engine import engine_api
from tests.support.poll import eventually
from tests.support.private_engine import answers

START_SECONDS = 60.0
STOP_SECONDS = 30.0
# Where Podman looks for an image whose name has no registry, as Docker does.
_REGISTRY = "docker.io/"


@contextmanager
def podman_engine(*images: str) -> Iterator[str]:
    """The address of a running Podman that has `images`, copied from the machine's own engine; gone afterwards."""
    assert shutil.which("podman"), "podman is needed: apt-get install podman catatonit"
    folder = Path(tempfile.mkdtemp(prefix="light-run-podman-"))
    address = f"unix://{folder}/engine.sock"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            # In a network of its own, as every private engine.
            [
                "unshare",
                "--net",
                "--",
                "podman",
                *_folders(folder),
                "system",
                "service",
                "--time",
                "0",
                address,
            ],
            # It leaves files where it works.
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: answers(address), "Podman answers", within=START_SECONDS)
        _load(address, images)
        yield address
        with engine_api(address) as api:
            for container in api.containers(all=True):
                api.remove_container(container["Id"], force=True)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (mounted := line.split()[1]).startswith(str(folder)):
                subprocess.run(["umount", "--lazy", mounted], check=True)
        shutil.rmtree(folder)


def _folders(folder: Path) -> list[str]:
    names = {"root": "root", "runroot": "run", "tmpdir": "tmp", "network-config-dir": "networks"}
    found = [f"--{option}={folder / name}" for option, name in names.items()]
    for name in names.values():
        (folder / name).mkdir()
    return [*found, "--cgroup-manager=cgroupfs", "--runtime=runc"]


def _load(address: str, images: tuple[str, ...]) -> None:
    with engine_api() as source, engine_api(address) as target:
        for image in images:
            with tempfile.TemporaryFile() as archive:
                for chunk in source.get_image(image):
                    archive.write(chunk)
                archive.seek(0)
                for _progress in target.load_image(archive):  # type: ignore[no-untyped-call]
                    pass
            target.tag(f"localhost/{image}", _REGISTRY + image.rpartition(":")[0], image.rpartition(":")[2])
