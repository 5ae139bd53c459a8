"""Separates the command of the container from the options of ``light-run run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


class ImageAndCommand(click.Command):
    """A command with the arguments IMAGE and COMMAND..., which takes options before and after IMAGE.

    As with docker, everything after the first word of COMMAND belongs to it, even if it looks like an option.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse `args`. Raises `click.UsageError`."""
        before, words = self._split_at_first_word(ctx, args)
        image, rest = words[:1], words[1:]
        # If IMAGE came after a `--`, no options follow it.
        between, command = ([], rest) if before[-1:] == ["--"] else self._split_at_first_word(ctx, rest)
        options = [*before, *between]
        dashes = [] if options[-1:] == ["--"] else ["--"]
        return super().parse_args(ctx, [*options, *dashes, *image, *command])

    def _split_at_first_word(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        found, _, _ = parser.parse_args(list(args))
        # The parser has assigned every word to one of the two arguments. An argument without a word has neither type.
        image, command = found.get("image"), found.get("command")
        count = isinstance(image, str) + (len(command) if isinstance(command, tuple) else 0)
        return args[: len(args) - count], args[len(args) - count :]


class NumberOrAll(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A whole number, or ``all``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int or ``all``."""
        return value if value == "all" else click.INT.convert(value, param, ctx)


def parsed_labels(given: Sequence[str]) -> dict[str, str]:
    """Return the labels of ``KEY=VALUE`` words. Raises `click.BadParameter`."""
    labels = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"{each!r} has no value: give {each}=VALUE", param_hint="--label")
        labels[key] = value
    return labels
