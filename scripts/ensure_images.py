#!/usr/bin/env python3
"""Make sure that the engine has the images of the demo and the tests.

    .venv/bin/python scripts/ensure_images.py --demo    one small image with a shell; prints its name, and nothing else
    .venv/bin/python scripts/ensure_images.py --test    every light-run-test/* image

The tests must pass where no registry can be reached, so their images are built here: from Debian packages, unpacked
into a folder and imported, which needs neither root nor a base image nor the docker command. They are never given the
name of a public image. Each carries the checksum of this file as a label and is built again when the recipe changes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
from docker.utils import kwargs_from_env

DEMO_IMAGE = "alpine:3.19"
PULL_SECONDS = 60
PREFIX = "light-run-test"
RECIPE = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--demo", action="store_true")
    which.add_argument("--test", action="store_true")
    arguments = parser.parse_args()
    try:
        with closing(docker.APIClient(version="auto", timeout=300, **kwargs_from_env())) as engine:
            if arguments.demo:
                print(ensure_demo_image(engine))
            else:
                ensure(engine, *BUILDERS)
    except (docker.errors.DockerException, requests.RequestException) as error:
        say(f"the container engine: {error}")
        return 1
    except subprocess.CalledProcessError as error:
        say(f"{' '.join(map(str, error.cmd))} failed with {error.returncode}")
        return 1
    return 0


def say(text: str) -> None:
    print(f"ensure-images: {text}", file=sys.stderr)


# --- which images are there -------------------------------------------------------------------------------


def ensure_demo_image(engine: Any) -> str:
    """The name of an image for the demo: a public one where it can be had, else one that is built here."""
    if present(engine, DEMO_IMAGE) or (not up_to_date(engine, "busybox") and pulled(engine, DEMO_IMAGE)):
        return DEMO_IMAGE
    say(f"without {DEMO_IMAGE}, the demo uses {PREFIX}/busybox, built here")
    ensure(engine, "busybox")
    return f"{PREFIX}/busybox:latest"


def present(engine: Any, name: str) -> bool:
    try:
        engine.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def up_to_date(engine: Any, name: str) -> bool:
    """True where the image is there, built by this very recipe."""
    try:
        found = engine.inspect_image(f"{PREFIX}/{name}:latest")
    except docker.errors.ImageNotFound:
        return False
    return bool((found["Config"].get("Labels") or {}).get("recipe") == RECIPE)


def pulled(engine: Any, name: str) -> bool:
    """Pull an image; False where that fails or takes too long."""
    say(f"pulling {name}")
    repository, tag = name.split(":")
    deadline = time.monotonic() + PULL_SECONDS
    try:
        for message in engine.pull(repository, tag=tag, stream=True, decode=True):
            if "error" in message or time.monotonic() > deadline:
                say(f"cannot be pulled: {message.get('error', 'it takes too long')}")
                return False
    except (docker.errors.APIError, requests.RequestException) as error:
        say(f"cannot be pulled: {error}")
        return False
    return True


def ensure(engine: Any, *names: str) -> None:
    """Build those that are missing or out of date."""
    missing = [name for name in names if not up_to_date(engine, name)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        sys.exit(
            f"ensure-images: {PREFIX}/* images are built from Debian packages, and there is no apt-get here"
        )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_skeleton(work / "busybox")
        install_busybox(work, work / "busybox")
        for name in missing:
            image = BUILDERS[name](engine, work)
            engine.tag(image, f"{PREFIX}/{name}", "latest")
            say(f"built {PREFIX}/{name}:latest")


# --- from packages to root file systems -------------------------------------------------------------------


def fetch_packages(work: Path, names: Iterable[str]) -> None:
    """Download the .deb files of these packages into ``work/packages``."""
    folder = work / "packages"
    folder.mkdir(exist_ok=True)
    command = ["apt-get", "download", "-q", *names]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0:
        return
    say("bringing the package lists up to date")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    subprocess.run([*sudo, "apt-get", "update", "-qq"], stdout=sys.stderr, check=True)
    subprocess.run(command, cwd=folder, stdout=sys.stderr, check=True)


def unpack(work: Path, root: Path, names: Iterable[str]) -> None:
    """Unpack packages that were fetched."""
    for name in names:
        (package,) = (work / "packages").glob(f"{name}_*.deb")
        files = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True
        ).stdout
        command = ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
        subprocess.run(command, input=files, check=True)


def make_skeleton(root: Path) -> None:
    """Make what every image with a shell has; /bin is /usr/bin, as in Debian."""
    for folder in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for folder in ("etc", "root", "tmp"):
        (root / folder).mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")


def install_busybox(work: Path, root: Path) -> None:
    """Unpack busybox, with a link for every applet whose name is not taken."""
    if not list((work / "packages").glob("busybox-static_*.deb")):
        fetch_packages(work, ["busybox-static"])
    unpack(work, root, ["busybox-static"])
    listed = subprocess.run([root / "bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if not os.path.lexists(root / "bin" / applet):
            (root / "bin" / applet).symlink_to("busybox")


def import_folder(engine: Any, root: Path, *changes: str) -> str:
    """Make an image of a folder, with Dockerfile instructions; its id."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(root, arcname=".", filter=_owned_by_root)
    every = [f"ENV PATH={SEARCH_PATH}", f"LABEL recipe={RECIPE}", *changes]
    answer = engine.import_image_from_data(archive.getvalue(), changes=every)
    # The last of the messages has the id.
    (image,) = re.findall(r"sha256:[0-9a-f]{64}", answer)
    return str(image)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


# --- the images, one function each ------------------------------------------------------------------------


def build_busybox(engine: Any, work: Path) -> str:
    return import_folder(engine, work / "busybox", 'CMD ["sh"]')


def build_nonroot(engine: Any, work: Path) -> str:
    """An image whose user is not root and which has no /app."""
    root = _copied(work, "nonroot")
    with (root / "etc/passwd").open("a") as passwd, (root / "etc/group").open("a") as group:
        passwd.write("app:x:1000:1000:app:/tmp:/bin/sh\n")
        group.write("app:x:1000:\n")
    return import_folder(engine, root, "USER app", 'CMD ["sh"]')


def build_workdir(engine: Any, work: Path) -> str:
    """An image that already has files where a run's files land."""
    root = _copied(work, "workdir")
    (root / "app").mkdir()
    (root / "app/from-image.txt").write_text("image\n")
    return import_folder(engine, root, 'CMD ["sh"]')


def build_entrypoint(engine: Any, work: Path) -> str:
    """An image with an entrypoint of its own."""
    return import_folder(engine, work / "busybox", 'ENTRYPOINT ["/bin/cat"]', "CMD []", "ENV GREETING=hi")


def build_noshell(engine: Any, work: Path) -> str:
    """One static program and nothing else; busybox goes by the name it is called by."""
    (work / "noshell/bin").mkdir(parents=True)
    shutil.copy2(work / "busybox/bin/busybox", work / "noshell/bin/echo")
    return import_folder(engine, work / "noshell", 'ENTRYPOINT ["/bin/echo","hello from no shell"]')


def build_python(engine: Any, work: Path) -> str:
    """A python3 with its standard library, and busybox for the rest."""
    root = work / "python"
    make_skeleton(root)
    packages = python_packages()
    fetch_packages(work, packages)
    unpack(work, root, packages)
    (root / "usr/bin/python").symlink_to("python3")
    for folder in ("doc", "man"):
        shutil.rmtree(root / "usr/share" / folder, ignore_errors=True)
    install_busybox(work, root)
    return compile_standard_library(engine, import_folder(engine, root, "ENV LANG=C.UTF-8"))


BUILDERS: dict[str, Callable[[Any, Path], str]] = {
    "busybox": build_busybox,
    "nonroot": build_nonroot,
    "workdir": build_workdir,
    "entrypoint": build_entrypoint,
    "noshell": build_noshell,
    "python": build_python,
}


def _copied(work: Path, name: str) -> Path:
    return Path(shutil.copytree(work / "busybox", work / name, symlinks=True))


def python_packages() -> list[str]:
    """The interpreter and its libraries, whatever they are called in this release."""
    depends = "\n".join(_depends(["python3-minimal"]))
    version = re.findall(r"Depends: (python3\.\d+)-minimal", depends)[0]
    direct = with_libraries([f"{version}-minimal", f"lib{version}-minimal", f"lib{version}-stdlib"])
    return ["python3-minimal", *with_libraries(direct)]


def with_libraries(packages: Sequence[str]) -> list[str]:
    """These packages, and the libraries that they depend on."""
    found = set()
    for line in _depends(packages):
        named = re.match(r"([a-z]\S*)$", line) or re.search(r"Depends: ((?:lib|zlib)\S*)$", line)
        if named:
            found.add(named[1])
    return sorted(found)


def _depends(packages: Sequence[str]) -> list[str]:
    command = ["apt-cache", "depends", *packages]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def compile_standard_library(engine: Any, image: str) -> str:
    """The id of an image in which python need not compile what it imports, 0.1 s each time."""
    command = ["sh", "-c", "python3 -m compileall -q /usr/lib/python3.*"]
    container = engine.create_container(image, command, host_config={"NetworkMode": "none"})["Id"]
    try:
        engine.start(container)
        code = engine.wait(container, timeout=300)["StatusCode"]
        if code:
            sys.exit(
                f"ensure-images: the standard library cannot be compiled: {engine.logs(container).decode()}"
            )
        return str(engine.commit(container, changes=['CMD ["python3"]'])["Id"])
    finally:
        engine.remove_container(container, force=True)


if __name__ == "__main__":
    sys.exit(main())
