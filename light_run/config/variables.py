"""The definition of one setting: its variable, parser, default and help text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from light_run.config import readers
from light_run.errors import SettingsError

MIB = 1024 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Variable:
    """The setting `field`: its environment variable and option, its parser, its default and its help text."""

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
        """The variable and, if it has one, its option: ``LIGHT_RUN_PORT (--port)``."""
        return f"{self.name} ({self.option})" if self.option else self.name

    def parse(self, value: object) -> Any:
        """Parse `value`. Raises `SettingsError` with the variable, the value and the allowed values."""
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
    """Define a field of `Settings`. `shown` is its default in words; `lenient` makes a bad value a warning."""
    metadata = {
        "read": read,
        "help": words,
        "shown": readers.show(default) if shown is None else shown,
        "option": option,
        "secret": secret,
        "lenient": lenient,
    }
    return field(default=default, repr=not secret, metadata=metadata)
