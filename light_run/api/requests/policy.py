"""The policy: what the operator allows requests to ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from light_run.engine.references import HUB, HUB_INDEX, Reference, is_id, parse
from light_run.engine.spec import Limits, Pull

# Docker Hub's official images lie under this path, and are written without it.
_OFFICIAL = "library/"
_ROOT = ("root", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits of a request.

    `limits`, `timeout` (ms) and `pull` are what a run gets that asks for none; `most` and `max_timeout` what
    it may ask for; `step_timeout` (ms) is both. `images`, `networks` and `users` are patterns, None allows all;
    `runtimes` are names. `is_tenant` tells of the request at hand whether its token is a named one without scope admin,
    `owns_network` whether that token created a network.
    """

    limits: Limits = field(default_factory=Limits)
    most: Limits = field(default_factory=Limits)
    timeout: int = 1_200_000
    max_timeout: int = 3_600_000
    step_timeout: int = 1_200_000
    runtimes: tuple[str, ...] = ("runc", "runsc")
    images: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    users: tuple[str, ...] | None = None
    pull: Pull = "missing"
    is_tenant: Callable[[], bool] = lambda: False
    owns_network: Callable[[str], bool] = lambda _: False

    def allows_image(self, image: str) -> bool:
        """Return True if a pattern matches `image`, however it is written.

        An id is allowed only by a pattern that begins with ``sha256:``, a digest only by a pattern with an ``@``. The
        engine does not check a tag that is written beside a digest, so such a pattern decides on the digest alone.
        """
        if self.images is None:
            return True
        if is_id(image):
            # As a name, it would be one of Docker Hub's.
            patterns = [pattern for pattern in self.images if pattern.startswith("sha256:")]
            return matches(patterns, f"sha256:{image.removeprefix('sha256:')}")
        patterns = [pattern for pattern in self.images if "@" in pattern or "@" not in image]
        return any(matches(patterns, each) for each in spellings(image))

    def allows_user(self, user: str) -> bool:
        """Return True if a pattern matches `user`; root is allowed only by a pattern that names it, not by ``*``."""
        if self.users is None:
            return True
        name, colon, group = user.partition(":")
        if name not in _ROOT:
            return matches(self.users, user)
        patterns = [pattern for pattern in self.users if pattern.partition(":")[0] in _ROOT]
        return any(matches(patterns, f"{each}{colon}{group}") for each in _ROOT)

    @property
    def allowed_networks(self) -> tuple[str, ...] | None:
        """The patterns of networks that the current request may name; None allows all."""
        if self.networks is None and self.is_tenant():
            return ("none",)
        return self.networks

    def allows_network(self, network: str) -> bool:
        """Return True if a pattern matches `network`, or the caller created the network."""
        patterns = self.allowed_networks
        return patterns is None or matches(patterns, network) or self.owns_network(network)


def matches(patterns: Sequence[str], text: str) -> bool:
    """Return True if one of `patterns` matches: ``*`` and ``?`` stop at a slash, ``**`` does not."""
    return any(_compiled(pattern).fullmatch(text) for pattern in patterns)


def spellings(image: str) -> set[str]:
    """Return the spellings of an image: with and without Docker Hub's name, ``:latest``, and a tag beside a digest.

    They come from the parsed reference, so that no text can pass for an image that it does not name. An invalid
    reference has none.
    """
    try:
        reference = parse(image)
    except ValueError:
        return set()
    if reference.digest:
        # The engine uses only the digest, so the tag is optional.
        endings = {
            f"@{reference.digest}",
            f":{reference.tag}@{reference.digest}" if reference.tag else "",
        } - {""}
    else:
        endings = {f":{reference.tag}"} | ({""} if ":" not in image.rpartition("/")[2] else set())
    return {f"{name}{ending}" for name in _names(reference) for ending in endings}


def _names(reference: Reference) -> set[str]:
    if reference.registry != HUB:
        return {reference.repository}
    short = {reference.path, reference.path.removeprefix(_OFFICIAL)}
    # "library/library/x" is not "library/x".
    short = {name for name in short if parse(name).path == reference.path}
    return short | {f"{host}/{reference.path}" for host in (HUB, HUB_INDEX)}


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts), re.DOTALL)
