"""Every engine that this machine can have, started as a private one."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.certificates import make_certificates, tls_options
from tests.support.engine import IMAGES
from tests.support.podman_engine import podman_engine
from tests.support.private_engine import private_engine
from tests.support.rootless import OrdinaryUser, dockerd_rootless, ordinary_user, rootless_docker

TITLES: Mapping[str, str] = {
    "docker": "Docker, first start",
    "docker-userns": "Docker, userns-remap",
    "docker-tls": "Docker, TCP with TLS",
    "docker-crun": "Docker, crun",
    "docker-rootless": "Docker, rootless",
    "podman": "Podman",
    "podman-rootless": "Podman, rootless",
}
_ROOTLESS_TOOLS = ("rootlesskit", "newuidmap", "slirp4netns")
_TOOLS: Mapping[str, tuple[str, ...]] = {
    "docker-tls": ("dockerd", "openssl"),
    "docker-crun": ("dockerd", "crun"),
    "docker-rootless": ("dockerd", *_ROOTLESS_TOOLS),
    "podman": ("podman", "catatonit"),
    "podman-rootless": ("podman", "catatonit", "newuidmap", "slirp4netns"),
}
# There where the hierarchy of cgroup v2 is mounted beside those of v1.
_HYBRID = Path("/sys/fs/cgroup/unified/cgroup.controllers")


@dataclass(frozen=True)
class Started:
    """A running engine: the environment that leads to it, and who uses it, None for root."""

    environment: Mapping[str, str] = field(default_factory=dict)
    user: OrdinaryUser | None = None


def unavailable(name: str) -> str | None:
    """Why this machine cannot have the engine `name`; None if it can."""
    if os.geteuid() != 0:
        return "root is needed to start it"
    missing = [tool for tool in _TOOLS.get(name, ("dockerd",)) if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    if name == "docker-crun" and _HYBRID.exists():
        return "crun refuses hosts with cgroups in hybrid mode"
    if name == "docker-rootless" and dockerd_rootless() is None:
        return "not installed: dockerd-rootless.sh"
    return None


@contextmanager
def started(name: str) -> Iterator[Started]:
    """The engine `name` with the images of the tests; gone afterwards, with all that was made there."""
    with ExitStack() as stack:
        if name == "docker-tls":
            yield stack.enter_context(_tls())
        elif name == "podman":
            yield Started({"DOCKER_HOST": stack.enter_context(podman_engine(*IMAGES))})
        elif name.endswith("-rootless"):
            user = stack.enter_context(ordinary_user())
            start = (
                rootless_docker(user, *IMAGES)
                if name == "docker-rootless"
                else podman_engine(*IMAGES, user=user)
            )
            yield Started({"DOCKER_HOST": stack.enter_context(start)}, user)
        else:
            options = {
                "docker-userns": ["--userns-remap", "default"],
                "docker-crun": ["--add-runtime", f"crun={shutil.which('crun')}"],
            }
            engine = stack.enter_context(private_engine(*IMAGES, options=options.get(name, ())))
            yield Started({"DOCKER_HOST": engine.address})


@contextmanager
def _tls() -> Iterator[Started]:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        certificates = Path(folder) / "certificates"
        make_certificates(certificates)
        with private_engine(*IMAGES, listener=listener, options=tls_options(certificates)):
            address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            yield Started(
                {
                    "DOCKER_HOST": address,
                    "DOCKER_TLS_VERIFY": "1",
                    "DOCKER_CERT_PATH": str(certificates),
                    # docker-py, by which the tests look at the engine, would prefer another that is set.
                    "REQUESTS_CA_BUNDLE": str(certificates / "ca.pem"),
                }
            )
