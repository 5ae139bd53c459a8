"""What the operator lets a request ask for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from light_run.engine.references import is_id
from light_run.engine.spec import Limits, Pull

_HUB = ("docker.io/", "index.docker.io/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The bounds of a request.

    `limits`, `timeout` (ms) and `pull` are what a run gets that asks for none; `most` and `max_timeout` what
    it may ask for. `images` and `networks` are patterns, None allows all; `runtimes` are names.
    """

    limits: Limits = field(default_factory=Limits)
    most: Limits = field(default_factory=Limits)
    timeout: int = 1_200_000
    max_timeout: int = 3_600_000
    runtimes: tuple[str, ...] = ("runc", "runsc")
    images: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    pull: Pull = "missing"

    def allows_image(self, image: str) -> bool:
        """True where a pattern fits `image`, in whichever way it may be written.

        An id and a digest are allowed only by patterns that are about such: ``sha256:...``, or with an ``@``.
        """
        if self.images is None:
            return True
        if is_id(image):
            # As a name, it would be one of Docker Hub's.
            patterns = [pattern for pattern in self.images if pattern.startswith("sha256:")]
            return matches(patterns, f"sha256:{image.removeprefix('sha256:')}")
        patterns = [pattern for pattern in self.images if "@" in pattern or "@" not in image]
        return any(matches(patterns, each) for each in spellings(image))

    def allows_network(self, network: str) -> bool:
        """True where a pattern fits `network`."""
        return self.networks is None or matches(self.networks, network)


def matches(patterns: Sequence[str], text: str) -> bool:
    """True where one of `patterns` fits: ``*`` and ``?`` stop at a slash, ``**`` does not."""
    return any(_compiled(pattern).fullmatch(text) for pattern in patterns)


def spellings(image: str) -> set[str]:
    """The ways to write one image: with and without Docker Hub's name, and ``:latest``."""
    familiar = image
    for prefix in _HUB:
        familiar = familiar.removeprefix(prefix)
    familiar = familiar.removeprefix("library/")
    found = {image, familiar}
    if "@" not in familiar and ":" not in familiar.rpartition("/")[2]:
        found |= {f"{image}:latest", f"{familiar}:latest"}
    first, slash, _ = familiar.partition("/")
    if not slash:
        found |= {f"docker.io/library/{each}" for each in found if "/" not in each}
    elif not set(".:") & set(first) and first != "localhost":
        found |= {f"docker.io/{each}" for each in found if not each.startswith(_HUB)}
    return found


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts), re.DOTALL)
