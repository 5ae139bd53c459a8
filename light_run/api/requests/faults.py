"""Faults of fields, and their conversion to the `details` of an error response."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError
from marshmallow.exceptions import SCHEMA

from light_run.errors import Fault

_SHOWN = 80
# Valid names are less than half as long. Without a limit, a thousand long names would make a huge response.
_LONGEST_NAME = 2048


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A fault of one value: an error code, and the rest of a sentence that begins with the field's name."""

    code: str
    text: str


def wrong(code: str, text: str) -> ValidationError:
    """Return the exception for one fault."""
    return ValidationError([FieldFault(code, text)])


def wrong_type(value: Any, right: str) -> ValidationError:
    """Return the exception for a value that is not of the type that `right` describes."""
    return wrong("invalid_type", f"is {kind(value)}; it must be {right}")


def kind(value: Any) -> str:
    """Describe `value` for a client; only numbers and booleans are shown themselves."""
    if value is None:
        return "null"
    if isinstance(value, (bool, int, float)):
        return shown(value)
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def shown(value: Any) -> str:
    """Return `value` as JSON, truncated if it is long."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def faults(messages: Any, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    """Yield every fault in marshmallow's nested `messages`, with its path and a whole sentence."""
    if isinstance(messages, dict):
        for key, below in messages.items():
            yield from faults(below, path if key == SCHEMA else (*path, key))
    elif isinstance(messages, list):
        for each in messages:
            yield from faults(each, path)
    else:
        problem = (
            messages if isinstance(messages, FieldFault) else FieldFault("invalid", f"is wrong: {messages}")
        )
        path = tuple(_cut(part) for part in path)
        yield Fault(path, problem.code, f"{_name(path)} {problem.text}")


def _cut(part: str | int) -> str | int:
    return f"{part[:_LONGEST_NAME]}…" if isinstance(part, str) and len(part) > _LONGEST_NAME else part


def _name(path: tuple[str | int, ...]) -> str:
    if not path:
        return "the request"
    name = str(path[0])
    for part in path[1:]:
        plain = isinstance(part, str) and part.isidentifier()
        name += f".{part}" if plain else f"[{shown(part)}]"
    return name
