"""Comparing what a document shows with what is so, where ids, times and ports differ each time."""

from __future__ import annotations

import json
import re
from typing import Any

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

_VOLATILE = (
    # What a run has used is known where its cgroup could be read in time.
    (re.compile(r',\s*"usage": \{[^}]*\}'), ""),
    (re.compile(UUID), "<id>"),
    (re.compile(TIME), "<time>"),
    (re.compile(r'("[a-zA-Z]+Ms": )\d+(\.\d+)?'), r"\1<ms>"),
    # Whether a container stood ready is a matter of what came before, and how fast.
    (re.compile(r'("parked": )(true|false)'), r"\1<parked>"),
    (re.compile(r"127\.0\.0\.1:\d+|--port \d{4,5}\b"), "<port>"),
    (re.compile(r"(--token |Bearer )[\w-]+"), r"\1<token>"),
)


def text(raw: str) -> str:
    """`raw` with a word in place of each id, time, duration, port and token; blanks at its ends are left out."""
    for pattern, word in _VOLATILE:
        raw = pattern.sub(word, raw)
    return raw.strip()


def value(raw: str) -> Any:
    """The JSON in `raw`, with a word in place of each value that differs each time; its form still counts."""
    return _value(json.loads(raw))


def _value(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _field(name, item) for name, item in found.items() if name != "usage"}
    if isinstance(found, list):
        return [_value(item) for item in found]
    return text(found) if isinstance(found, str) else found


def _field(name: str, found: Any) -> Any:
    if name == "parked":
        assert isinstance(found, bool), found
        return "<parked>"
    return _duration(found) if name.endswith("Ms") else _value(found)


def _duration(found: Any) -> str:
    assert isinstance(found, (int, float)), found
    assert found >= 0, found
    return "<ms>"
