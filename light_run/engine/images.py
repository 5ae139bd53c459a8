"""Images: present, pulled once however many wait, or built of `run` steps and kept for the next time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from docker.utils import parse_repository_tag

from light_run.engine.cancel import CancelToken
from light_run.engine.client import Engine
from light_run.engine.credentials import credentials
from light_run.engine.flight import Report, SingleFlight
from light_run.engine.layers import Layers
from light_run.errors import EngineRefused, EngineUnavailable, ImageNotFound, PullFailed

# The reference grammar of the distribution project, to the extent that keeps a name from being a path of the
# engine's API: [registry[:port]/]name[/name...][:tag][@digest].
_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?/|\[[0-9a-fA-F:]+\](?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9.+_-]*:[0-9a-fA-F]{32,})?"
)

# How engines and registries word that there is no such image, as against one that could not be fetched.
_NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|no such image|does not exist|name unknown|invalid reference", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image the engine has: its id, and its configuration in the engine API's form."""

    id: str
    config: dict[str, Any]


class Images:
    """Finds and pulls images."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pulls: SingleFlight[None] = SingleFlight("pull")

    def find(self, name: str) -> Image | None:
        """The image called `name` if the engine has it. Raises ImageNotFound where that is no image's name."""
        _check(name)
        try:
            found = self._engine.inspect_image(name)
        except EngineRefused as error:
            if error.not_found:
                return None
            raise
        return Image(found["Id"], found.get("Config") or {})

    def pull(self, name: str, cancel: CancelToken, report: Report) -> Image:
        """Pull `name`, together with whoever else is pulling it. Raises ImageNotFound, PullFailed, Cancelled."""
        _check(name)
        self._pulls.run(name, partial(self._pull, name), cancel, report)
        image = self.find(name)
        if image is None:
            raise PullFailed(f"image {name!r} was pulled and is gone again")
        return image

    def _pull(self, name: str, abandoned: CancelToken, report: Report) -> None:
        repository, tag = parse_repository_tag(name)
        known = credentials(repository)
        layers = Layers()
        try:
            with self._engine.pull(repository, tag or "latest", known, abandoned) as messages:
                for message in messages:
                    abandoned.check()
                    if "error" in message:
                        raise _pull_error(name, str(message["error"]))
                    layers.note(message)
                    report(layers.progress)
        except EngineRefused as error:
            raise _pull_error(name, str(error)) from error
        except (OSError, ValueError) as error:
            raise EngineUnavailable(
                f"the connection broke while image {name!r} was pulled: {error}"
            ) from error


def _check(name: str) -> None:
    if not _REFERENCE.fullmatch(name):
        raise ImageNotFound(f"image {name!r}: invalid reference format")


def _pull_error(name: str, words: str) -> ImageNotFound | PullFailed:
    kind = ImageNotFound if _NO_SUCH_IMAGE.search(words) else PullFailed
    return kind(f"image {name!r} cannot be had: {words}")


def step_keys(base: str, steps: Iterable[str]) -> list[str]:
    """The cache key after each of `steps` on the image with id `base`: sha256, in hex, of both."""
    done: list[str] = []
    keys = []
    for step in steps:
        done.append(step)
        keys.append(hashlib.sha256(json.dumps([base, done]).encode()).hexdigest())
    return keys
