"""Strict fields: values are not converted, and every fault has a sentence of its own.

Their `metadata` is what a JSON Schema of them says beside their type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import Schema, fields

from light_run.api.requests.faults import FieldFault, kind, shown, wrong, wrong_type
from light_run.system.sizes import bytes_of

Check = Callable[[str], None]

MESSAGES: dict[str, Any] = {
    "required": [FieldFault("required", "is missing")],
    "null": [FieldFault("invalid_type", "is null; omit the field instead")],
}

# JSON Schema patterns are ECMAScript, in clients of any language.
NO_NUL = r"^[^\u0000]*$"
SIZE = "^[0-9]{1,18} ?[kKmMgGtT]?([iI]?[bB])?$"


def _bounds(low: str, least: Any, high: str, most: Any) -> dict[str, Any]:
    return {low: least, high: most}


class Text(fields.String):
    """A string of `least` to `most` characters without NUL; `checks` raise `wrong` for what else is amiss.

    `schema` is how JSON Schema says what they look for, as far as it can.
    """

    def __init__(
        self,
        *checks: Check,
        most: int,
        least: int = 1,
        required: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        said = {**_bounds("minLength", least, "maxLength", most), "pattern": NO_NUL, **(schema or {})}
        super().__init__(required=required, error_messages=MESSAGES, metadata=said)
        self._checks, self._least, self._most = checks, least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type(value, "a string")
        if len(value) < self._least:
            least = (
                "is empty; it must have a character"
                if not value
                else f"is too short: {len(value)} characters"
            )
            raise wrong("too_short", f"{least}, at least {self._least}" if self._least > 1 else least)
        if len(value) > self._most:
            raise wrong("too_long", f"has {len(value)} characters; the maximum is {self._most}")
        if "\0" in value:
            raise wrong("invalid_text", "has a NUL character")
        for check in self._checks:
            check(value)
        return value


class Choice(fields.String):
    """One of `words`; `check` raises for one that is not allowed here."""

    def __init__(self, *words: str, check: Callable[[str], None] | None = None) -> None:
        super().__init__(
            error_messages=MESSAGES,
            metadata={"enum": list(words)},
            validate=None if check is None else [check],
        )
        self._words = words

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        right = f"one of {', '.join(self._words)}"
        if not isinstance(value, str):
            raise wrong_type(value, right)
        if value not in self._words:
            raise wrong("invalid_value", f"is {shown(value)}; it must be {right}")
        return value


class TextList(fields.List):  # type: ignore[type-arg,unused-ignore]
    """An array of at most `most` strings."""

    def __init__(self, inner: Text, *, most: int) -> None:
        super().__init__(inner, error_messages=MESSAGES, metadata={"maxItems": most})
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise wrong_type(value, "an array of strings")
        if len(value) > self._most:
            raise wrong("too_long", f"has {len(value)} entries; the maximum is {self._most}")
        return super()._deserialize(value, attr, data, **kwargs)


class Integer(fields.Integer):
    """A whole number from `least` to `most`, in units of `what`."""

    def __init__(self, what: str, *, least: int, most: int) -> None:
        super().__init__(error_messages=MESSAGES, metadata=_bounds("minimum", least, "maximum", most))
        self._what, self._least, self._most = what, least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        right = f"a whole number of {self._what}, {self._least} to {self._most}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(value, right)
        if not self._least <= value <= self._most:
            raise wrong("out_of_range", f"is {kind(value)}; it must be {right}")
        return value


class Number(fields.Float):
    """A number from `least` to `most`, fractions allowed."""

    def __init__(self, what: str, *, least: float, most: float) -> None:
        super().__init__(error_messages=MESSAGES, metadata=_bounds("minimum", least, "maximum", most))
        self._what, self._least, self._most = what, least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        right = f"a number of {self._what}, {self._least:g} to {self._most:g}"
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise wrong_type(value, right)
        if not self._least <= value <= self._most:
            raise wrong("out_of_range", f"is {kind(value)}; it must be {right}")
        return float(value)


class Boolean(fields.Boolean):
    """true or false."""

    def __init__(self) -> None:
        super().__init__(error_messages=MESSAGES)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise wrong_type(value, "true or false")
        return value


class Size(fields.Field):  # type: ignore[type-arg,unused-ignore]
    """Bytes, as a number or as text such as ``512m``, from `least` to `most`."""

    def __init__(self, *, least: int, most: int) -> None:
        number = {"type": "integer", **_bounds("minimum", least, "maximum", most)}
        text = {"type": "string", "pattern": SIZE}
        super().__init__(error_messages=MESSAGES, metadata={"anyOf": [number, text]})
        self._least, self._most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        right = f'bytes from {self._least} to {self._most}, as a number or as text such as "256m"'
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise wrong_type(value, right)
        found = bytes_of(value) if isinstance(value, str) else value
        if found is None:
            raise wrong("invalid_value", f"is not a size; it must be {right}")
        if not self._least <= found <= self._most:
            raise wrong("out_of_range", f"is {kind(found)} bytes; it must be {right}")
        return found


class Nested(fields.Nested):
    """An object with a schema of its own."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, error_messages=MESSAGES)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, partial: Any = None, **kwargs: Any
    ) -> Any:
        if not isinstance(value, Mapping):
            raise wrong_type(value, "an object")
        return super()._deserialize(value, attr, data, partial=partial, **kwargs)


class AnyValue(fields.Raw):
    """Any JSON value, including null."""

    def __init__(self) -> None:
        super().__init__(allow_none=True)
