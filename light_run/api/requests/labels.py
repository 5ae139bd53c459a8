"""Labels of runs: the field of a request, and the filters of a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import ValidationError
from marshmallow.fields import Dict

from light_run.api.requests.faults import FieldFault, kind, shown, wrong, wrong_type
from light_run.api.requests.fields import MESSAGES, NO_NUL
from light_run.errors import Fault, InvalidSpec

MOST_LABELS, _LONGEST_VALUE = 20, 200
_KEY = re.compile(r"[A-Za-z0-9._/-]{1,64}")
_RIGHT_KEY = 'must have 1 to 64 letters, digits, ".", "_", "/" and "-"'

FILTER_SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "maxItems": MOST_LABELS,
    "items": {"type": "string", "pattern": f"^{_KEY.pattern}=[^\\u0000]{{0,{_LONGEST_VALUE}}}$"},
}


class RunLabels(Dict):
    """An object of keys and strings."""

    def __init__(self) -> None:
        schema = {
            "maxProperties": MOST_LABELS,
            "propertyNames": {"pattern": f"^{_KEY.pattern}$"},
            "additionalProperties": {"type": "string", "maxLength": _LONGEST_VALUE, "pattern": NO_NUL},
        }
        super().__init__(error_messages=MESSAGES, metadata=schema)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise wrong_type(value, "an object of strings")
        if len(value) > MOST_LABELS:
            raise wrong("too_long", f"has {len(value)} entries; the maximum is {MOST_LABELS}")
        problems = {key: [fault] for key, item in value.items() if (fault := _fault(key, item))}
        if problems:
            raise ValidationError(problems)
        return value


def _fault(key: str, value: Any) -> FieldFault | None:
    if not _KEY.fullmatch(key):
        return FieldFault("invalid_name", f"is not a valid key; it {_RIGHT_KEY}")
    if not isinstance(value, str):
        return FieldFault("invalid_type", f"is {kind(value)}; it must be a string")
    if len(value) > _LONGEST_VALUE:
        return FieldFault("too_long", f"has {len(value)} characters; the maximum is {_LONGEST_VALUE}")
    return FieldFault("invalid_text", "has a NUL character") if "\0" in value else None


def label_filters(given: Sequence[str]) -> list[tuple[str, str]]:
    """Parse ``KEY=VALUE`` filters; a run has to have all of them. Raises `InvalidSpec`."""
    if len(given) > MOST_LABELS:
        right = f"label is given {len(given)} times; the maximum is {MOST_LABELS}"
        raise InvalidSpec([Fault(("label",), "too_long", right)])
    return [_label_filter(each) for each in given]


def _label_filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or _fault(key, value):
        right = f"label is {shown(text)}; it must be KEY=VALUE, such as team=search, and KEY {_RIGHT_KEY}"
        raise InvalidSpec([Fault(("label",), "invalid_value", right)])
    return key, value
