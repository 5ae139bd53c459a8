"""Parsers for the values of settings. Each takes a string or an already parsed value.

They raise ValueError with the allowed values as the message; the caller adds the name of the setting.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

from light_run.errors import SettingsError
from light_run.system.sizes import bytes_of

_TIME = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d)?")
_SECONDS: dict[str, Fraction | int] = {"ms": Fraction(1, 1000), "s": 1, "m": 60, "h": 3600, "d": 86400}
_HOST = re.compile(r"[a-z0-9_*?](?:[a-z0-9_.*?-]*[a-z0-9_*?])?")
_ORIGIN = re.compile(r"[a-z*][a-z0-9+.*-]*://(?:\[[0-9a-f:.]+\]|[a-z0-9_.*?-]+)(?::(?:[0-9]{1,5}|\*))?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_USER = re.compile(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?")
_PRINTABLE = re.compile(r"[!-~]+")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def integer(least: int, most: int) -> Callable[[object], int]:
    """Parse a whole number in decimal digits."""

    def read(value: object) -> int:
        text = str(value).strip()
        if not isinstance(value, bool) and re.fullmatch(r"[0-9]{1,18}", text) and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"give a whole number from {least} to {most}")

    return read


def number(least: float, most: float) -> Callable[[object], float]:
    """Parse a number, which may have a fraction."""

    def read(value: object) -> float:
        try:
            found = math.nan if isinstance(value, bool) else float(str(value))
        except ValueError:
            found = math.nan
        if least <= found <= most:
            return found
        raise ValueError(f"give a number from {least:g} to {most:g}")

    return read


def size(least: int) -> Callable[[object], int]:
    """Parse a number of bytes, with an optional unit k, m, g or t (powers of 1024)."""

    def read(value: object) -> int:
        found = bytes_of(str(value)) if not isinstance(value, bool) else None
        if found is None or found < least:
            raise ValueError(f"give a number of bytes, at least {least}, or a size such as 512m or 1g")
        return found

    return read


def seconds(least: float, most: float) -> Callable[[object], float]:
    """Parse seconds, or a number with the unit ms, s, m, h or d."""

    def read(value: object) -> float:
        match = _TIME.fullmatch(str(value).strip())
        found = float(Fraction(match[1]) * _SECONDS[match[2] or "s"]) if match else math.nan
        if least <= found <= most:
            return found
        raise ValueError(f"give seconds from {least:g} to {most:g}, or a time such as 90s, 5m or 7d")

    return read


def milliseconds(least: int, most: int) -> Callable[[object], int]:
    """Parse whole milliseconds, or a number with the unit ms, s, m, h or d."""

    def read(value: object) -> int:
        match = _TIME.fullmatch(str(value).strip())
        # Fractions are exact: in floating point, 700 * 0.001 * 1000 is not 700.
        found = Fraction(match[1]) * _SECONDS[match[2] or "ms"] * 1000 if match else Fraction(-1)
        if least <= found <= most and found.denominator == 1:
            return int(found)
        raise ValueError(f"give milliseconds from {least} to {most}, or a time such as 90s, 5m or 1h")

    return read


def boolean(value: object) -> bool:
    """Parse 1, true, yes, on or 0, false, no, off."""
    text = str(value).strip().lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("give true or false")


def choice(*words: str) -> Callable[[object], str]:
    """Accept one of `words`."""

    def read(value: object) -> str:
        if (text := str(value).strip()) in words:
            return text
        raise ValueError(f"give one of {', '.join(words)}")

    return read


def word(value: object) -> str:
    """Accept a word of printable ASCII characters."""
    if _PRINTABLE.fullmatch(text := str(value).strip()):
        return text
    raise ValueError("give one word of ASCII characters, without spaces")


def token(value: object) -> str:
    """Accept a bearer token: printable ASCII characters that fit into an Authorization header."""
    if _PRINTABLE.fullmatch(text := str(value)):
        return text
    raise ValueError("give a token of ASCII letters, digits and punctuation, without spaces")


def id_prefix(value: object) -> str:
    """Read the prefix of run ids: lower-case letters, digits and hyphens."""
    text = word(value)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", text):
        raise ValueError(
            "give up to 32 lower-case letters, digits and hyphens, beginning with a letter or digit"
        )
    return text


def name(value: object) -> str:
    """Accept a name that the engine allows for runtimes and networks."""
    if _NAME.fullmatch(text := str(value).strip()):
        return text
    raise ValueError("give a name of letters, digits, '_', '.' and '-'")


def user(value: object) -> str:
    """Accept ``name``, ``uid`` or ``uid:gid``."""
    if _USER.fullmatch(text := str(value).strip()):
        return text
    raise ValueError("give a name, a uid or uid:gid, such as 65534:65534")


def gpus(value: object) -> int | Literal["all"]:
    """Parse a number of GPUs, or ``all``."""
    text = str(value).strip().lower()
    if text == "all":
        return "all"
    if not isinstance(value, bool) and re.fullmatch(r"[1-9][0-9]{0,3}", text):
        return int(text)
    raise ValueError("give all, or a number of GPUs from 1 on")


def patterns(value: object) -> tuple[str, ...]:
    """Parse a list of words, separated by commas or spaces."""
    items = re.split(r"[,\s]+", value) if isinstance(value, str) else _strings(value)
    found = tuple(item for item in items if item)
    if not found:
        raise ValueError("give one or more values, separated by commas")
    return found


def names(value: object) -> tuple[str, ...]:
    """Parse a list of names, separated by commas or spaces."""
    return tuple(name(item) for item in patterns(value))


def capabilities(value: object) -> tuple[str, ...]:
    """Parse a list of capabilities, with or without the prefix ``CAP_``. The list can be empty."""
    if not isinstance(value, str) and not _strings(value):
        return ()
    found = tuple(item.upper().removeprefix("CAP_") for item in patterns(value))
    if not all(re.fullmatch(r"[A-Z][A-Z_0-9]*", item) for item in found):
        raise ValueError("give capabilities separated by commas, such as CHOWN,SETUID, or ALL")
    return found


def networks(value: object) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Parse a list of IP addresses and networks. The list can be empty."""
    if not isinstance(value, str) and not _strings(value):
        return ()
    try:
        return tuple(ipaddress.ip_network(item) for item in patterns(value))
    except ValueError:
        raise ValueError("give IP addresses or networks, such as 127.0.0.1,10.0.0.0/8") from None


def origins(value: object) -> tuple[str, ...]:
    """Parse a list of patterns of web origins. The list can be empty."""
    if not isinstance(value, str) and not _strings(value):
        return ()
    found = tuple(item.lower() for item in patterns(value))
    for item in found:
        if item not in {"*", "null"} and not _ORIGIN.fullmatch(item):
            raise ValueError(
                f"{item} is not an origin: give scheme, host and port, without a path, such as https://app.example.com"
            )
    return found


def hosts(value: object) -> tuple[str, ...]:
    """Parse a list of patterns of host names. The list can be empty."""
    if not isinstance(value, str) and not _strings(value):
        return ()
    found = tuple(item.lower() for item in patterns(value))
    for item in found:
        if not _HOST.fullmatch(item):
            raise ValueError(
                f"{item} is not a host name: give names without a port, such as light-run.example.com"
            )
    return found


def pins(value: object) -> tuple[tuple[str, int], ...]:
    """Parse ``image=count`` pairs separated by commas, or a mapping."""
    if isinstance(value, Mapping):
        value = [f"{image}={count}" for image, count in value.items()]
    pairs = [item.rpartition("=") for item in patterns(value)]
    if not all(image and re.fullmatch(r"[0-9]{1,3}", count) for image, _, count in pairs):
        raise ValueError("give images and counts, such as alpine:3.19=2,python:3.12-alpine=4")
    return tuple((image, int(count)) for image, _, count in pairs)


def prefix(value: object) -> str:
    """Accept the path of an nginx location; a trailing slash is removed."""
    text = str(value).strip().rstrip("/")
    if re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+", text):
        return text
    raise ValueError("give the path of an nginx location, such as /internal-artifacts")


def path(value: object) -> Path:
    """Accept the path of a file or folder; `expanded` replaces ``~``."""
    text = str(value)
    if not text.strip() or "\0" in text:
        raise ValueError("give a path")
    return Path(text)


def expanded(value: Path) -> Path:
    """Return `value` as an absolute path, with ``~`` replaced. Raises `SettingsError` without a home folder."""
    try:
        return value.expanduser().absolute()
    except RuntimeError:
        raise SettingsError(f"{value}: this user has no home folder; give an absolute path") from None


def show(value: object) -> str:
    """Format `value` as in an environment variable."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _strings(value: object) -> list[str]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return list(value)
    raise ValueError("give a string or a list of strings")
