"""Sizes as people write them, ``512m`` for bytes, and as they read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,18})\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size such as ``1048576``, ``512m`` or ``1g``, or None if `text` is not a size."""
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(match[1]) * _FACTORS[match[2].lower()]


def decimal(number: float) -> str:
    """Return bytes in the largest fitting unit of powers of 1000, such as ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
