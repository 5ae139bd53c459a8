"""Image references, taken apart once: registry, repository, tag and digest.

The grammar is that of the distribution project (its ``reference`` package):
``[registry[:port]/]name[/name...][:tag][@digest]``. A name without a registry is one of Docker Hub's, and one without a
tag and a digest means ``latest``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

HUB = "docker.io"
# An older name of the same registry.
HUB_INDEX = "index.docker.io"
# The repository of the images that steps are cached in.
STEP_REPOSITORY = "light-run-cache"
# Labels of those images: the server that made it, the image below the step, and that one's size in bytes.
STEP_LABEL = "light-run.cache"
BASE_LABEL = "light-run.base"
BASE_SIZE_LABEL = "light-run.base-size"

_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_REGISTRY = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?"
)
_SEGMENT = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name: `registry` such as ``docker.io``, `path` such as ``library/alpine``; `tag`, `digest` or both."""

    registry: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def repository(self) -> str:
        """Registry and path."""
        return f"{self.registry}/{self.path}"

    @property
    def canonical(self) -> str:
        """The whole name, as no two images have it; of tag and digest, the digest counts."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def of_steps(self) -> bool:
        """True for the name of a cached image of steps."""
        return self.path.rpartition("/")[2] == STEP_REPOSITORY


def is_id(text: str) -> bool:
    """True for the whole id of an image, which is 64 hexadecimal digits with or without ``sha256:`` before them."""
    return _ID.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def parse(text: str) -> Reference:
    """Take a reference apart. Raises ValueError, which says what is wrong with it."""
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError('what follows "@" is no digest such as sha256:0123... with 64 hexadecimal digits')
    rest, registry = _registry(name)
    path, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError('what follows ":" is no tag: up to 128 letters, digits, "_", "." and "-"')
    for segment in path.split("/"):
        if not _SEGMENT.fullmatch(segment):
            raise ValueError(_wrong_segment(segment))
    if registry == HUB and "/" not in path:
        path = f"library/{path}"
    return Reference(registry, path, tag or (None if at else "latest"), digest or None)


def _registry(name: str) -> tuple[str, str]:
    # The rest of the name, and the registry: the first segment, where it can be no part of a repository's name.
    first, slash, rest = name.partition("/")
    if name.startswith("["):
        raise ValueError("a registry cannot be given by an IPv6 address: give its name")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first.lower() != first):
        return name, HUB
    if not _REGISTRY.fullmatch(first):
        raise ValueError(f"{first[:100]!r} is no registry such as registry.example.com:5000")
    return rest, HUB if first == HUB_INDEX else first


def _wrong_segment(segment: str) -> str:
    if not segment:
        return "a part of the name is empty"
    if segment.lower() != segment:
        return f"{segment[:100]!r} has capital letters: repository names are in lower case"
    return f"{segment[:100]!r} is no part of a repository's name: letters, digits and single separators between them"


def is_named(reference: Reference, names: Iterable[str]) -> bool:
    """True where `reference` is among `names`, an image's RepoTags and RepoDigests as the engine lists them."""
    return any(_canonical(name) == reference.canonical for name in names)


def _canonical(name: str) -> str | None:
    try:
        return parse(name).canonical
    except ValueError:
        return None  # <none>:<none>
