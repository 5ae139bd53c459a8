"""Platforms of images and engines, such as ``linux/amd64``, as the OCI image specification writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from light_run.errors import StartFailed

# The kernel's names, which engines use of themselves, and others in use.
_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "armhf": "arm/v7",
    "i386": "386",
    "i686": "386",
}
# What an architecture without a variant is.
_USUAL_VARIANTS = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


def normalised(platform: str) -> str:
    """Return `platform` with the specification's names, and without the variant that is the usual one."""
    system, _, rest = platform.lower().partition("/")
    architecture, _, variant = _ALIASES.get(rest, rest).partition("/")
    architecture = _ALIASES.get(architecture, architecture)
    kept = f"/{variant}" if variant and variant != _USUAL_VARIANTS.get(architecture) else ""
    return f"{system}/{architecture}{kept}"


def of_engine(info: Mapping[str, Any]) -> str:
    """Return the platform of the engine that describes itself as `info`."""
    return normalised(f"{info.get('OSType') or 'linux'}/{info.get('Architecture', '')}")


def of_image(found: Mapping[str, Any]) -> str:
    """Return the platform of the image that the engine describes as `found`, empty where it does not tell."""
    if not found.get("Architecture"):
        return ""
    parts = (found.get("Os") or "linux", found["Architecture"], found.get("Variant") or "")
    return normalised("/".join(filter(None, parts)))


def require(platform: str, info: Mapping[str, Any]) -> None:
    """Raise StartFailed unless `platform` is that of the engine that describes itself as `info`.

    Another one would need emulation on the engine's host, which an engine does not tell of; and a store that has one
    image a name would give the image to every other request for that name.
    """
    own = of_engine(info)
    if normalised(platform) != own:
        raise StartFailed(f"platform {platform!r}: this engine runs containers for {own} only")
