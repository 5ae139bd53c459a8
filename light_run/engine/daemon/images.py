"""Calls for images: inspect, pull, commit, remove."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from docker.utils import parse_repository_tag

from light_run.engine.daemon.session import Session
from light_run.engine.daemon.transport import breakable, translated_errors
from light_run.engine.stop import StopRequest
from light_run.errors import EngineRefused


class ImageCalls(Session):
    """The engine's calls for images."""

    def inspect_image(self, name: str) -> dict[str, Any]:
        """An image's id and configuration."""
        with translated_errors():
            return dict(self.api.inspect_image(name))

    def images(self, label: str, *, everything: bool = False) -> list[dict[str, Any]]:
        """The images that bear `label`; with `everything`, unnamed ones that others were built on as well."""
        with translated_errors():
            return list(self.api.images(all=everything, filters={"label": label}))

    def remove_image(self, name: str) -> bool:
        """Remove an image, and none below it; True where it is gone, False where it is in use."""
        try:
            with translated_errors():
                # Unnamed base images may belong to others.
                self.api.remove_image(name, noprune=True)
        except EngineRefused as error:
            if not (error.not_found or error.conflict):
                raise
            return error.not_found
        return True

    def import_image(self, tar: bytes, name: str, labels: Mapping[str, str]) -> str:
        """Make an image of the files in a tar; its id. Podman 4 does not give it the `name`."""
        repository, tag = name.split(":")
        # A Dockerfile's instructions, in which JSON is a way to quote.
        changes = [f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()]
        with translated_errors():
            answer = self.api.import_image_from_data(tar, repository=repository, tag=tag, changes=changes)
        try:
            return str(json.loads(answer.splitlines()[-1])["status"])
        except (ValueError, LookupError, TypeError):
            raise EngineRefused(
                HTTPStatus.INTERNAL_SERVER_ERROR, f"no image was made: {answer[:1000]}"
            ) from None

    @contextlib.contextmanager
    def pull(
        self, name: str, credentials: Mapping[str, str], abandoned: StopRequest
    ) -> Iterator[Iterator[dict[str, Any]]]:
        """Pull the image `name`; yields the engine's progress messages, the last of which may be an error.

        Runs on a client of its own: leaving the block early, or a cancel of `abandoned`, closes the
        connection, which makes the engine give the pull up. `credentials` are for the registry, in the form of
        the engine's API; empty for none.
        """
        repository, tag = parse_repository_tag(name)
        with translated_errors():
            client = self._connect()
        with breakable(client) as break_off, abandoned.subscribed(break_off), translated_errors():
            yield client.pull(
                repository, tag=tag or "latest", stream=True, decode=True, auth_config=dict(credentials)
            )

    def platforms(self, name: str, credentials: Mapping[str, str]) -> tuple[str, ...]:
        """The platforms that an image's registry has it for, such as ``linux/arm64``."""
        with translated_errors():
            found = self.api.inspect_distribution(name, auth_config=dict(credentials))
            parts = (
                (each.get(key) for key in ("os", "architecture", "variant")) for each in found["Platforms"]
            )
            return tuple(sorted({"/".join(filter(None, each)) for each in parts}))

    def commit(self, container: str, repository: str, tag: str, config: Mapping[str, Any]) -> str:
        """Make an image of a container; its id."""
        with translated_errors():
            return str(self.api.commit(container, repository, tag, conf=dict(config))["Id"])
