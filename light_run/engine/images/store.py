"""Images: finds them, pulls each once for all who wait, and finds cached images of `run` steps."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from light_run.engine import references
from light_run.engine.daemon.client import Engine
from light_run.engine.daemon.credentials import credentials
from light_run.engine.images import platforms
from light_run.engine.images.progress import PullProgress
from light_run.engine.images.registries import check_registry, is_other_platform, pull_error
from light_run.engine.images.single_flight import OutOfTime, Report, SingleFlight
from light_run.engine.images.uses import StepUses
from light_run.engine.spec import RegistryAuth
from light_run.engine.stop import StopRequest
from light_run.errors import EngineError, EngineRefused, EngineUnavailable, ImageNotFound, PullFailed

_log = logging.getLogger(__name__)

# A valid platform, such as linux/arm/v7. Registries are not trusted to send one.
_PLATFORM = re.compile(r"[a-z0-9]{1,20}(?:/[a-z0-9_.]{1,20}){1,2}")


@dataclass(frozen=True, slots=True)
class Image:
    """An image the engine has: its id, its configuration in the engine API's form, its size in bytes, its platform."""

    id: str
    config: dict[str, Any]
    size: int = 0
    platform: str = ""


class Images:
    """Finds images, and pulls them; a caller waits for a pull at most `timeout` seconds.

    `uses` records when images of steps are used.
    """

    def __init__(
        self,
        engine: Engine,
        registries: Sequence[str] = (),
        timeout: float = 1200.0,
        uses: StepUses | None = None,
    ) -> None:
        self._engine = engine
        self._registries = registries
        self._timeout = timeout
        self._uses = uses or StepUses(None, time.time)
        self._pulls: SingleFlight[None] = SingleFlight("pull")

    def find(self, name: str) -> Image | None:
        """Return the image with this name or id, if the engine has it. Raises ImageNotFound for an invalid reference.

        The engine also takes the beginning of an id for a name; an image is found here by its whole id or by a name
        that it has. Images of steps are not found by name.
        """
        wanted = None if references.is_id(name) else _parsed(name)
        found = self._inspect(name)
        if found is None:
            return None
        if wanted is None:
            named = found["Id"].removeprefix("sha256:") == name.removeprefix("sha256:")
        else:
            names = [*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]
            named = references.is_named(wanted, names)
        return _image(found) if named else None

    def find_steps(self, key: str) -> Image | None:
        """Return the cached image of steps with this key, and record its use."""
        self._uses.use(key)
        found = self._inspect(f"{references.STEP_REPOSITORY}:{key}")
        return None if found is None else _image(found)

    def _inspect(self, name: str) -> dict[str, Any] | None:
        try:
            return self._engine.inspect_image(name)
        except EngineRefused as error:
            if error.not_found:
                return None
            raise

    def pull(
        self,
        name: str,
        owner: str,
        stop: StopRequest,
        report: Report,
        auth: RegistryAuth | None = None,
    ) -> Image:
        """Pull `name` for `owner`, once for all who are pulling it. Raises ImageNotFound, PullFailed, Cancelled.

        An `owner` other than the operator, who has no name, may pull only from public registries and those allowed.
        `auth` takes the place of what the docker configuration has for the registry.
        """
        if references.is_id(name):
            raise ImageNotFound(
                f"image {name!r} is not at the engine, and an id cannot be pulled: give a name"
            )
        reference = _parsed(name)
        if owner:
            check_registry(reference, self._registries)
        if auth is not None and auth.lost:
            raise PullFailed(
                f"image {name!r} has to be pulled, and the registryAuth of the request was not kept over the restart "
                "of the server: send the request again"
            )
        deadline = time.monotonic() + self._timeout
        try:
            self._pulls.run((name, auth), partial(self._pull, name, auth), stop, report, deadline=deadline)
        except OutOfTime:
            raise PullFailed(
                f"image {name!r} was not pulled within {self._timeout:g} s (LIGHT_RUN_PULL_TIMEOUT): "
                "its registry is slow; pull it at the engine first, or raise that"
            ) from None
        image = self.find(name)
        if image is None:
            raise PullFailed(f"image {name!r} was pulled, but removed again")
        return image

    def _pull(self, name: str, auth: RegistryAuth | None, abandoned: StopRequest, report: Report) -> None:
        known = credentials(name) if auth is None else _engine_form(auth)
        layers = PullProgress()
        try:
            with self._engine.pull(name, known, abandoned) as messages:
                for message in messages:
                    abandoned.check_start()
                    if "error" in message:
                        raise self._pull_error(name, str(message["error"]), known, auth)
                    layers.note(message)
                    report(layers.progress)
        except EngineRefused as error:
            # Not chained: the engine quotes the registry's response, which may contain the password.
            raise self._pull_error(name, str(error), known, auth) from (error if auth is None else None)
        except (OSError, ValueError) as error:
            raise EngineUnavailable(
                f"the connection broke while image {name!r} was pulled: {error}"
            ) from error

    def _pull_error(
        self, name: str, words: str, known: Mapping[str, str], auth: RegistryAuth | None
    ) -> ImageNotFound | PullFailed:
        others = self._platforms(name, known) if is_other_platform(words) else ""
        error = pull_error(name, words, others, asked=auth is not None)
        said = words[:1000] if auth is None else str(error)
        _log.warning("image not pulled", extra={"image": name, "error": said})
        return error

    def _platforms(self, name: str, known: Mapping[str, str]) -> str:
        with suppress(EngineError):
            found = [each for each in self._engine.platforms(name, known) if _PLATFORM.fullmatch(each)]
            return f"; it has it for {', '.join(found[:20])}" if found else ""
        return ""


def _engine_form(auth: RegistryAuth) -> dict[str, str]:
    if auth.token:
        return {"identitytoken": auth.token}
    return {"username": auth.username, "password": auth.password}


def _image(found: Mapping[str, Any]) -> Image:
    size = int(found.get("Size") or 0)
    return Image(found["Id"], found.get("Config") or {}, size, platforms.of_image(found))


def _parsed(name: str) -> references.Reference:
    try:
        reference = references.parse(name)
    except ValueError as error:
        raise ImageNotFound(f"image {name!r}: invalid reference: {error}") from None
    if reference.of_steps:
        raise ImageNotFound(f"image {name!r} is one of cached steps, which has no name for requests")
    return reference


def step_keys(base: str, steps: Iterable[str], scope: Sequence[str] = ()) -> list[str]:
    """Return the cache key after each of `steps` on the image with id `base`: sha256, in hex, of these and `scope`.

    `scope` is whatever else the result depends on, and who may have it.
    """
    done: list[str] = []
    keys = []
    for step in steps:
        done.append(step)
        keys.append(hashlib.sha256(json.dumps([base, done, *scope]).encode()).hexdigest())
    return keys
