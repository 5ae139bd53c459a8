"""A look at the container engine from outside, to see what a server made there and left there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import docker
import docker.errors
from docker.utils import kwargs_from_env

LABELS = "light-run."
KIND = "light-run.kind"
PARKED = "parked"

BUSYBOX = "light-run-test/busybox:latest"
PYTHON = "light-run-test/python:latest"
NONROOT = "light-run-test/nonroot:latest"
NOSHELL = "light-run-test/noshell:latest"
ENTRYPOINT = "light-run-test/entrypoint:latest"
WORKDIR = "light-run-test/workdir:latest"
IMAGES = (BUSYBOX, PYTHON, NONROOT, NOSHELL, ENTRYPOINT, WORKDIR)

Container = dict[str, Any]

_versions: dict[str, str] = {}


@contextmanager
def engine_api(address: str | None = None) -> Iterator[docker.APIClient]:
    """An open low-level client to the engine at `address`, by default the one of DOCKER_HOST."""
    base_url = address or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    # Asked for once: to tell its version an engine executes three programs, and it is looked at several thousand times.
    version = _versions.get(base_url, "auto")
    # Its certificates, where an engine by TCP wants some.
    over_tls = base_url.startswith("tcp:") and bool(os.environ.get("DOCKER_TLS_VERIFY"))
    arguments = kwargs_from_env() if over_tls else {"base_url": base_url}
    with closing(docker.APIClient(**arguments, version=version, timeout=60)) as api:
        _versions[base_url] = api.api_version
        yield api


def containers_of(server_id: str, address: str | None = None) -> list[Container]:
    """Every container, stopped ones too, that bears one of our labels with `server_id` as its value."""
    with engine_api(address) as api:
        return [
            container
            for container in api.containers(all=True)
            if any(
                name.startswith(LABELS) and value == server_id
                for name, value in (container["Labels"] or {}).items()
            )
        ]


def is_parked(container: Container) -> bool:
    """Whether `container` was created ahead of any request; one that has ended had its run and is none any more."""
    return bool(container["Labels"].get(KIND) == PARKED and container["State"] in ("created", "running"))


def inspect_container(container_id: str, address: str | None = None) -> dict[str, Any]:
    """What the engine says about a container."""
    with engine_api(address) as api:
        found: dict[str, Any] = api.inspect_container(container_id)
        return found


def touch_in(container_id: str, path: str, address: str | None = None) -> None:
    """Make an empty file in a container that is at work."""
    with engine_api(address) as api:
        api.exec_start(api.exec_create(container_id, ["touch", path])["Id"])


def inspect_image(name: str, address: str | None = None) -> dict[str, Any]:
    """What the engine says about an image."""
    with engine_api(address) as api:
        found: dict[str, Any] = api.inspect_image(name)  # type: ignore[no-untyped-call]
        return found


def images_of(server_id: str, address: str | None = None, label: str = "light-run.server") -> list[str]:
    """The ids of the images that bear `label` with `server_id` as its value; of steps it is light-run.cache."""
    with engine_api(address) as api:
        return [str(image["Id"]) for image in api.images(filters={"label": f"{label}={server_id}"})]


def step_images(server_id: str, address: str | None = None) -> list[str]:
    """The ids of the images of steps that a server has made."""
    return images_of(server_id, address, "light-run.cache")


def remove_step_images(server_id: str, address: str | None = None) -> None:
    """Remove them; nothing may use them any more."""
    with engine_api(address) as api:
        # A longer one rests on a shorter one: those that are in the way of nothing go first.
        while made := step_images(server_id, address):
            for image in made:
                with suppress(docker.errors.APIError):
                    api.remove_image(image, force=True)


def missing_images() -> list[str]:
    """Return the test images that the engine does not have. Raises if no engine responds."""
    with engine_api() as api:
        # Podman puts the registry in front.
        present = {
            tag.removeprefix("docker.io/") for image in api.images() for tag in image["RepoTags"] or ()
        }
    return [image for image in IMAGES if image not in present]
