"""One setting: how it is named, read, shown and explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from light_run.config import readers
from light_run.errors import SettingsError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Variable:
    """One row of the table: how the setting `field` is named, read, shown and explained."""

    field: str
    name: str
    default: str
    help: str
    read: Callable[[Any], Any]
    option: str | None = None
    secret: bool = False
    lenient: bool = False

    @property
    def title(self) -> str:
        """The variable and, where there is one, its option: ``LIGHT_RUN_PORT (--port)``."""
        return f"{self.name} ({self.option})" if self.option else self.name

    def parse(self, value: object) -> Any:
        """Read `value`. Raises `SettingsError` naming the variable, the value and what would be right."""
        try:
            return self.read(value)
        except ValueError as error:
            shown = "" if self.secret else f' is "{str(value)[:80]}"'
            raise SettingsError(f"{self.title}{shown}: {error}") from None


def setting(
    default: _T,
    read: Callable[[Any], _T],
    words: str,
    *,
    shown: str | None = None,
    option: str | None = None,
    secret: bool = False,
    lenient: bool = False,
) -> Any:
    """A field of `Settings`; `shown` is its default in words, a `lenient` one warns instead of failing."""
    metadata = {
        "read": read,
        "help": words,
        "shown": readers.show(default) if shown is None else shown,
        "option": option,
        "secret": secret,
        "lenient": lenient,
    }
    return field(default=default, repr=not secret, metadata=metadata)
